package topology

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// loadCatalogs compiles the protos of all catalogs, and those that grpc bindings name, and returns their methods.
func (c *compiler) loadCatalogs() Methods {
	all, from := Methods{}, map[string]string{}
	add := func(s entry[subject], methods Methods) {
		for name, m := range methods {
			if known, twice := all[name]; twice && known != m {
				c.report.problem(s.name.position, "subjects `%s` and `%s` disagree on whether method `%s` streams; remove one of them",
					from[name], s.name.value, name)
			}
			all[name], from[name] = m, s.name.value
		}
	}
	others := c.otherSubjects()
	for _, catalog := range c.doc.Catalogs {
		roots := c.catalogRoots(catalog.value.roots)
		for _, s := range catalog.value.subjects {
			if others[subjectKey{catalog.name.value, s.name.value}] {
				continue // no proto
			}
			add(s, c.compileSubject(catalog.name.value, roots, s))
		}
	}
	for _, s := range c.services() {
		add(s, c.compileSubject("", nil, s))
	}
	for _, s := range c.registrySubjects() {
		add(s, c.compileSubject(s.value.catalog, nil, s))
	}
	return all
}

// services are the protos that grpc bindings name by their paths, each once.
func (c *compiler) services() (all []entry[subject]) {
	seen := map[string]bool{}
	for b := range c.graph.each {
		var paths []text
		switch spec := b.spec.(type) {
		case *grpcServer:
			paths = spec.Options.Services
		case *grpcClient:
			paths = spec.Options.Services
		}
		for _, path := range paths {
			if path.ok && !seen[c.path(path.value)] {
				seen[c.path(path.value)] = true
				name := path
				name.value = path.raw // it is told
				all = append(all, entry[subject]{name, subject{path: path}})
			}
		}
	}
	return all
}

// catalogRoots are the folders that the imports of a catalog's protos are relative to.
func (c *compiler) catalogRoots(roots []text) []string {
	var folders []string
	for _, root := range roots {
		if !root.ok {
			continue
		}
		folder := c.path(root.value)
		switch info, err := os.Stat(folder); {
		case err != nil:
			if c.options.Read != nil {
				c.options.Read(folder, nil, err)
			}
			c.report.cause(err, root.position, "%s cannot be used: %v", root.place, err)
		case !info.IsDir():
			c.report.problem(root.position, "%s: `%s` is no folder", root.place, root.raw)
		default:
			folders = append(folders, folder)
		}
	}
	return folders
}

// catalogRefs reports references to catalogs, subjects and versions that do not exist.
func (c *compiler) catalogRefs(refs named[[]subjectRef]) {
	for _, ref := range refs {
		catalog, ok := c.doc.Catalogs.get(ref.name.value)
		if !ok {
			c.report.problem(ref.name.position, "catalog `%s` of %s does not exist%s", ref.name.value, ref.name.place, hint(ref.name.value, c.doc.Catalogs.names()))
			continue
		}
		if catalog.registry != nil {
			c.registriesUsed[ref.name.value] = true
			continue // see registrySubjects
		}
		if len(catalog.subjects) == 0 {
			continue // reported, or of an unusable type
		}
		for _, r := range ref.value {
			if r.ID.given {
				c.report.problem(r.ID.position, "%s: catalog `%s` is no schema registry, and has no ids; name the `subject`", r.ID.place, ref.name.value)
			} else if !r.Subject.given {
				c.report.problem(r.at, "%s is missing: catalog `%s` has subjects", r.place.key("subject"), ref.name.value)
			}
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

// compileSubject compiles one proto and reports each of its errors. Imports are relative to the catalog's roots, to the root that
// the proto's package tells, to the folder of the proto, or to that of the configuration; well-known ones are built in.
//
// An option, and an import that only options need, has no part in what is done with a proto: where it cannot be understood it is
// left out, with a warning.
func (c *compiler) compileSubject(catalog string, roots []string, s entry[subject]) Methods {
	var at position
	var source []byte
	p := &protoFiles{nameOf: c.nameOf, read: func(path string) ([]byte, error) { return c.options.read(path, readRegular) }}
	name, path := s.name.value+".proto", s.name.value+".proto"
	switch {
	case s.value.fetched != nil:
		at, source = s.name.position, []byte(s.value.fetched.Text)
		p.imports = s.value.fetched.Imports
		identity := "registry/" + catalog + "/"
		p.nameOf = func(file, name string) string { return c.protoNames.of(identity+file, name) }
		name = c.protoNames.of(identity+name, name)
	case s.value.schema.ok:
		at, source = s.value.schema.position, []byte(s.value.schema.value)
		p.folders = []string{c.dir}
		name = c.protoNames.of("inline/"+catalog+"/"+name, name)
	case s.value.path.ok:
		path = c.path(s.value.path.value)
		at = s.value.path.position
		var err error
		if source, err = c.options.read(path, readRegular); err != nil {
			c.report.cause(err, at, "cannot read the proto of subject `%s`: %v", s.name.value, err)
			return nil
		}
		if root := rootOf(path, source); root != "" {
			roots = append(slices.Clone(roots), root)
		}
		name = filepath.Base(path)
		if inside := below(path, roots); inside != "" {
			name = inside
		}
		name = c.nameOf(path, name)
		p.folders = distinctFolders(append(slices.Clone(roots), filepath.Dir(path), c.dir))
	default:
		return nil
	}
	p.load(name, path, source)
	file, wrong := p.compile()
	for _, f := range wrong {
		hint := ""
		switch {
		case !errors.As(f.err, new(*notFound)) || !s.value.path.ok:
		case catalog == "":
			hint = "; make it a subject of a catalog of type filesystem, and name the folder that the import is relative to in its `options.roots`"
		default:
			hint = "; name the folder that it is relative to in `options.roots` of the catalog"
		}
		c.report.cause(f.err, at, "subject `%s` does not compile: %s: %s%s", s.name.value, f.where, f.what, hint)
	}
	if file == nil {
		return nil
	}
	for _, f := range p.leftOut() {
		c.report.warn(at, "subject `%s`: %s: %s; it is left out, as nothing of the services needs it", s.name.value, f.where, f.what)
	}
	c.protos.add(file)
	c.files[subjectKey{catalog, s.name.value}] = file
	methods := methodsOf(file)
	if len(methods) == 0 && !s.value.quiet {
		c.report.warn(at, "subject `%s` gives no method: there is no service with one in `%s`", s.name.value, path)
	}
	return methods
}

// nameOf is the name of a file: one that others import it by, or where another has that, its path below the configuration's folder.
func (c *compiler) nameOf(file, name string) string {
	identity := absolute(file)
	return c.protoNames.of(identity, filepath.ToSlash(filepath.Clean(name)), below(identity, []string{absolute(c.dir)}))
}

func methodsOf(file protoreflect.FileDescriptor) Methods {
	all := Methods{}
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		for j := range service.Methods().Len() {
			m := service.Methods().Get(j)
			all[string(service.FullName())+"/"+string(m.Name())] = Method{
				ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer(),
			}
		}
	}
	return all
}
