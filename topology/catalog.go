package topology

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/reporter"
)

// loadCatalogs compiles the protos of all catalogs and returns their methods.
func (c *compiler) loadCatalogs() Methods {
	all, from := Methods{}, map[string]string{}
	for i := range c.doc.Catalogs {
		for _, s := range c.doc.Catalogs[i].value.subjects {
			for name, m := range c.compileSubject(s) {
				if known, twice := all[name]; twice && known != m {
					c.report.problem(s.name.position, "subjects `%s` and `%s` disagree on whether method `%s` streams; remove one of them",
						from[name], s.name.value, name)
				}
				all[name], from[name] = m, s.name.value
			}
		}
	}
	return all
}

// catalogRefs reports references to catalogs, subjects and versions that do not exist.
func (c *compiler) catalogRefs(refs named[[]subjectRef]) {
	for _, ref := range refs {
		catalog, ok := c.doc.Catalogs.get(ref.name.value)
		if !ok {
			c.report.problem(ref.name.position, "catalog `%s` of %s does not exist%s", ref.name.value, ref.name.place, hint(ref.name.value, c.doc.Catalogs.names()))
			continue
		}
		if len(catalog.subjects) == 0 {
			continue // reported, or of an unusable type
		}
		for _, r := range ref.value {
			if !r.Subject.ok {
				continue
			}
			s, ok := catalog.subjects.get(r.Subject.value)
			if !ok {
				c.report.problem(r.Subject.position, "%s: catalog `%s` has no subject `%s`%s", r.Subject.place, ref.name.value, r.Subject.raw,
					hint(r.Subject.value, catalog.subjects.names()))
				continue
			}
			if r.Version.ok && s.version.ok && r.Version.value != "latest" && r.Version.value != s.version.value {
				c.report.problem(r.Version.position, "%s: subject `%s` has version `%s` only; use that or latest", r.Version.place, r.Subject.raw, s.version.raw)
			}
		}
	}
}

// protoSource finds the files that a subject is made of. The compiler asks from several goroutines.
type protoSource struct {
	root    string // name of the file that the compilation begins with
	schema  []byte
	folders []string // where imports are looked for, first match wins

	mu    sync.Mutex
	paths map[string]string // import name -> path, for messages
}

func (p *protoSource) FindFileByPath(name string) (protocompile.SearchResult, error) {
	if name == p.root {
		return protocompile.SearchResult{Source: bytes.NewReader(p.schema)}, nil
	}
	for _, folder := range p.folders {
		path := filepath.Join(folder, filepath.FromSlash(name))
		data, err := readRegular(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return protocompile.SearchResult{}, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.paths[name] = path
		return protocompile.SearchResult{Source: bytes.NewReader(data)}, nil
	}
	return protocompile.SearchResult{}, fs.ErrNotExist
}

func (p *protoSource) path(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if path, ok := p.paths[name]; ok {
		return path
	}
	return name
}

// compileSubject compiles one proto and reports each of its errors. Imports are relative to the folder of the
// proto, then to that of the configuration; those of the protobuf project itself are built in.
func (c *compiler) compileSubject(s entry[subject]) Methods {
	var at position
	source := &protoSource{root: s.name.value + ".proto", folders: []string{c.dir}, paths: map[string]string{}}
	switch {
	case s.value.schema.ok:
		at, source.schema = s.value.schema.position, []byte(s.value.schema.value)
	case s.value.path.ok:
		path := c.path(s.value.path.value)
		at = s.value.path.position
		var err error
		if source.schema, err = readRegular(path); err != nil {
			c.report.cause(err, at, "cannot read the proto of subject `%s`: %v", s.name.value, err)
			return nil
		}
		source.root = filepath.Base(path)
		source.paths[source.root] = path
		source.folders = []string{filepath.Dir(path), c.dir}
	default:
		return nil
	}

	var mu sync.Mutex
	var found []error
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(source),
		Reporter: reporter.NewReporter(func(err reporter.ErrorWithPos) error {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, err)
			return nil // go on, to find the next one
		}, nil),
	}
	var files linker.Files
	err := caught("the proto compiler", func() (err error) {
		// No caller's context: this reads a few small local files, and Compile returns when that is done.
		files, err = compiler.Compile(context.Background(), source.root)
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	if err != nil && len(found) == 0 {
		found = []error{err}
	}
	for _, err := range found {
		var positioned reporter.ErrorWithPos
		if !errors.As(err, &positioned) {
			c.report.cause(err, at, "subject `%s` does not compile: %v", s.name.value, err)
			continue
		}
		p := positioned.GetPosition()
		p.Filename = source.path(p.Filename)
		c.report.cause(err, at, "subject `%s` does not compile: %s: %v", s.name.value, p, positioned.Unwrap())
	}
	if len(found) > 0 {
		return nil
	}
	for _, file := range files {
		c.protos.add(file)
	}
	return methodsOf(files)
}

func methodsOf(files linker.Files) Methods {
	all := Methods{}
	for _, file := range files {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				all[string(service.FullName())+"/"+string(m.Name())] = Method{
					ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer(),
				}
			}
		}
	}
	return all
}
