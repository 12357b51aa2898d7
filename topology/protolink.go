package topology

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// optionName is an option of a file, and leftover how often it was left out, and why.
type (
	optionName struct{ file, name string }
	leftover   struct {
		first finding
		spans []ast.NodeInfo
	}
)

// FindFileByPath implements [protocompile.Resolver].
func (p *protoFiles) FindFileByPath(name string) (protocompile.SearchResult, error) {
	if f := p.files[name]; f != nil && f.parsed != nil {
		return protocompile.SearchResult{ParseResult: f.parsed}, nil
	}
	if file := builtIn(name); file != nil {
		return protocompile.SearchResult{Desc: file}, nil
	}
	return protocompile.SearchResult{}, fs.ErrNotExist
}

// compile links the files of a subject, or tells what is wrong with them. It tries again without what is in the way, as long as
// that is an option, or a file that is imported.
func (p *protoFiles) compile() (linker.File, []finding) {
	wrong := slices.Concat(p.cycles, p.root.errs)
	for _, f := range slices.Collect(maps.Values(p.files)) {
		if f.parsed == nil && f != p.root {
			p.leaveOut(f, f.errs)
		}
	}
	for p.root.parsed != nil {
		file, errs := p.link()
		if len(errs) == 0 && len(wrong) == 0 {
			return file, nil
		}
		options, others, own := false, map[*protoFile][]finding{}, []finding(nil)
		for _, err := range errs {
			f := cmp.Or(p.files[err.GetPosition().Filename], p.root)
			found := f.finding(err.GetPosition(), err, "%v", err.Unwrap())
			switch {
			case p.dropOption(f, err):
				options = true
			case f == p.root, twice(found):
				own = append(own, found)
			default:
				others[f] = append(others[f], found)
			}
		}
		if options {
			continue
		}
		if len(own) > 0 || len(others) == 0 {
			wrong = append(wrong, own...)
			for _, found := range others {
				wrong = append(wrong, found...)
			}
			break
		}
		for f, found := range others {
			p.leaveOut(f, found)
		}
	}
	return nil, append(wrong, p.missing...)
}

// twice reports what no import can be left out for: something would be taken that may be meant otherwise.
func twice(f finding) bool { return strings.Contains(f.what, "already de") }

// link compiles the files as they are.
func (p *protoFiles) link() (linker.File, []reporter.ErrorWithPos) {
	var mu sync.Mutex
	var found []reporter.ErrorWithPos
	compiler := protocompile.Compiler{
		Resolver: &protoFiles{files: maps.Clone(p.files)}, // after an error it returns while goroutines of its own are still asking
		Reporter: reporter.NewReporter(func(err reporter.ErrorWithPos) error {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, err)
			return nil // go on, to find the next one
		}, nil),
	}
	var files linker.Files
	err := caught("the proto compiler", func() (err error) {
		// No caller's context: this works on a few small files in memory.
		files, err = compiler.Compile(context.Background(), p.root.name)
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	if err != nil && len(found) == 0 {
		found = []reporter.ErrorWithPos{reporter.Error(ast.UnknownSpan(p.root.name), err)}
	}
	if len(found) > 0 {
		return nil, found
	}
	return files[0], nil
}

// leaveOut takes a file out of all that import it.
func (p *protoFiles) leaveOut(f *protoFile, why []finding) {
	p.missing = append(p.missing, why...)
	delete(p.files, f.name)
	for _, importer := range p.files {
		if importer.parsed != nil {
			importer.relink(f.name, "")
		}
	}
}

// dropOption takes out the custom option that an error is about. It reports whether there is one.
func (p *protoFiles) dropOption(f *protoFile, err reporter.ErrorWithPos) bool {
	offset := err.GetPosition().Offset
	for name, left := range p.options {
		if name.file == f.name && slices.ContainsFunc(left.spans, func(n ast.NodeInfo) bool { return covers(n, offset) }) {
			return true
		}
	}
	var dropped *descriptorpb.UninterpretedOption
	var span ast.NodeInfo
	eachOption(f.parsed.FileDescriptorProto().ProtoReflect(), func(o *descriptorpb.UninterpretedOption) bool {
		if node := f.parsed.OptionNode(o); dropped == nil && customName(o) != "" && node != nil {
			if n := f.parsed.FileNode().NodeInfo(node); covers(n, offset) {
				dropped, span = o, n
			}
		}
		return o != dropped
	})
	if dropped == nil {
		return false
	}
	name := optionName{f.name, customName(dropped)}
	if p.options[name] == nil {
		p.options[name] = &leftover{first: f.finding(err.GetPosition(), err, "%v", err.Unwrap())}
	}
	p.options[name].spans = append(p.options[name].spans, span)
	return true
}

func covers(n ast.NodeInfo, offset int) bool {
	return n.Start().Offset <= offset && offset <= n.End().Offset
}

// customName is the name of an option up to its extension, "" for the options that every proto has.
func customName(o *descriptorpb.UninterpretedOption) string {
	var name string
	for _, part := range o.GetName() {
		if part.GetIsExtension() {
			return name + "(" + part.GetNamePart() + ")"
		}
		name += part.GetNamePart() + "."
	}
	return ""
}

// eachOption takes all options out of a message and those below it that are not to be kept.
func eachOption(m protoreflect.Message, keep func(*descriptorpb.UninterpretedOption) bool) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case !field.IsList():
			eachOption(v.Message(), keep)
		default:
			list, kept := v.List(), 0
			for i := range list.Len() {
				element := list.Get(i)
				if o, ok := element.Message().Interface().(*descriptorpb.UninterpretedOption); ok && !keep(o) {
					continue
				}
				eachOption(element.Message(), keep)
				list.Set(kept, element)
				kept++
			}
			list.Truncate(kept)
		}
		return true
	})
}

// leftOut tells what the files were compiled without.
func (p *protoFiles) leftOut() []finding {
	all := slices.Clone(p.missing)
	for name, left := range p.options {
		where := "option `" + name.name + "`"
		if n := len(left.spans); n > 1 {
			where += fmt.Sprintf(", %d times", n)
		}
		left.first.what = where + ": " + left.first.what
		all = append(all, left.first)
	}
	return all
}
