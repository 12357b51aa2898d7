package topology

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/parser"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/types/descriptorpb"
)

// protoNames are the names that files have in reflection and in each other's imports. A file has one, and no two have the same.
type protoNames struct {
	byFile map[string]string // by identity: the absolute path, or what an inline schema is called
	taken  map[string]bool
}

// of is the name of a file: the one that it has, or the first of some that is free.
func (n *protoNames) of(identity string, names ...string) string {
	if name, known := n.byFile[identity]; known {
		return name
	}
	names = append(names, strings.TrimPrefix(filepath.ToSlash(identity), "/"))
	free := slices.IndexFunc(names, func(name string) bool { return name != "" && !n.taken[name] })
	name := names[max(free, 0)]
	n.byFile[identity], n.taken[name] = name, true
	return name
}

// protoFiles are the files that a subject is made of.
type protoFiles struct {
	nameOf  func(file, name string) string
	read    func(path string) ([]byte, error)
	folders []string      // where imports are looked for, first match wins
	imports []ProtoImport // or those that there are
	files   map[string]*protoFile
	root    *protoFile
	missing []finding                // of imports that are left out
	cycles  []finding                // of imports that lead back
	options map[optionName]*leftover // that are left out
}

// protoFile is one of them, parsed.
type protoFile struct {
	name, path string        // path: as messages name it
	parsed     parser.Result // nil: it cannot be
	errs       []finding     // why
}

// finding is something that is wrong with a proto.
type finding struct {
	where, what string
	err         error
}

func (f *protoFile) finding(p ast.SourcePos, err error, format string, args ...any) finding {
	p.Filename = f.path
	return finding{p.String(), fmt.Sprintf(format, args...), err}
}

// rootOf is the folder that the imports of a proto are relative to, as its package tells: a file of package acme.v1 lies in
// acme/v1 below it. "" where it does not.
func rootOf(path string, source []byte) string {
	name := packageOf(source)
	if name == "" {
		return ""
	}
	inside := string(filepath.Separator) + strings.ReplaceAll(name, ".", string(filepath.Separator))
	// A relative path may begin inside of the package.
	for _, folder := range []string{filepath.Dir(path), absolute(filepath.Dir(path))} {
		if root, found := strings.CutSuffix(folder, inside); found {
			return filepath.Clean(root + string(filepath.Separator))
		}
	}
	return ""
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

// below is the name of a file below one of some folders, or "".
func below(file string, folders []string) string {
	for _, folder := range folders {
		if rel, err := filepath.Rel(absolute(folder), absolute(file)); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel)
		}
	}
	return ""
}

// distinctFolders leaves out folders that are named twice.
func distinctFolders(folders []string) []string {
	var all, seen []string
	for _, folder := range folders {
		if abs := absolute(folder); !slices.Contains(seen, abs) {
			all, seen = append(all, filepath.Clean(folder)), append(seen, abs)
		}
	}
	return all
}

// load reads the file that a subject begins with and all that it imports.
func (p *protoFiles) load(name, path string, source []byte) {
	p.files, p.options = map[string]*protoFile{}, map[optionName]*leftover{}
	p.root = p.parse(name, path, source)
	p.follow(p.root, []string{name})
}

// parse takes in the text of a file.
func (p *protoFiles) parse(name, path string, source []byte) *protoFile {
	f := &protoFile{name: name, path: path}
	p.files[name] = f
	lowered, is2024 := lowerEdition(source)
	handler := reporter.NewHandler(reporter.NewReporter(func(err reporter.ErrorWithPos) error {
		what := strings.Replace(err.Unwrap().Error(), `one of ["2023"]`, `one of ["2023", "2024"]`, 1) // see lowerEdition
		f.errs = append(f.errs, f.finding(err.GetPosition(), err, "%s", what))
		return nil // go on, to find the next one
	}, nil))
	err := caught("the proto compiler", func() error {
		tree, err := parser.Parse(name, bytes.NewReader(lowered), handler)
		if err != nil {
			return err
		}
		f.parsed, err = parser.ResultFromAST(tree, true, handler)
		return err
	})
	if err != nil && len(f.errs) == 0 {
		f.errs = []finding{{f.path, err.Error(), err}}
	}
	if len(f.errs) > 0 {
		f.parsed = nil
		return f
	}
	if is2024 {
		f.parsed.FileDescriptorProto().Edition = descriptorpb.Edition_EDITION_2024.Enum()
	}
	return f
}

// follow reads what a file imports. Chain are the names of the files on the way to it, with its own.
func (p *protoFiles) follow(f *protoFile, chain []string) {
	if f.parsed == nil {
		return
	}
	for _, decl := range f.parsed.AST().Decls {
		node, ok := decl.(*ast.ImportNode)
		if !ok {
			continue
		}
		written := node.Name.AsString()
		at := f.parsed.AST().NodeInfo(node.Name).Start()
		name, err := p.resolve(written, chain)
		if err != nil {
			f.relink(written, "")
			p.missing = append(p.missing, f.finding(at, err, "import `%s` %v", written, err))
			continue
		}
		if i := slices.Index(chain, name); i >= 0 {
			f.relink(written, "")
			p.cycles = append(p.cycles, f.finding(at, nil, "imports form a cycle: %s", strings.Join(append(slices.Clone(chain[i:]), name), " -> ")))
			continue
		}
		f.relink(written, name)
	}
}

// resolve finds an import, and reads the file where that was not done. It returns the file's name.
func (p *protoFiles) resolve(written string, chain []string) (string, error) {
	for _, i := range p.imports {
		if i.Name != written {
			continue
		}
		name := p.nameOf(i.Source, written)
		if p.files[name] == nil {
			p.follow(p.parse(name, written, []byte(i.Text)), append(slices.Clone(chain), name))
		}
		return name, nil
	}
	for _, folder := range p.folders {
		path := filepath.Join(folder, filepath.FromSlash(written))
		source, err := p.read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot be read: %w", err)
		}
		name := p.nameOf(path, written)
		if p.files[name] == nil {
			p.follow(p.parse(name, path, source), append(slices.Clone(chain), name))
		}
		return name, nil
	}
	if builtIn(written) != nil {
		return written, nil
	}
	if p.folders == nil {
		return "", errors.New("is none of what the registry says that it refers to")
	}
	return "", &notFound{p.folders}
}

// notFound is an import that is in none of the folders.
type notFound struct{ folders []string }

func (n *notFound) Error() string {
	quoted := make([]string, len(n.folders))
	for i, folder := range n.folders {
		quoted[i] = "`" + folder + "`"
	}
	return "is in none of the folders " + strings.Join(quoted, ", ")
}

func (n *notFound) Is(target error) bool { return target == fs.ErrNotExist }

// relink replaces the name of an import, or takes it out with "" or one that is there already.
func (f *protoFile) relink(old, name string) {
	d := f.parsed.FileDescriptorProto()
	i := slices.Index(d.Dependency, old)
	if i < 0 || old == name {
		return
	}
	if name != "" && !slices.Contains(d.Dependency, name) {
		d.Dependency[i] = name
		return
	}
	d.Dependency = slices.Delete(d.Dependency, i, i+1)
	for _, indexes := range []*[]int32{&d.PublicDependency, &d.WeakDependency} {
		var kept []int32
		for _, at := range *indexes {
			if int(at) < i {
				kept = append(kept, at)
			}
			if int(at) > i {
				kept = append(kept, at-1)
			}
		}
		*indexes = kept
	}
}
