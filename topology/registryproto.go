package topology

import (
	"cmp"
	"fmt"
)

// RegistryProto is a proto that a schema registry has.
type RegistryProto struct {
	ID, Version int
	Text        string
	Imports     []ProtoImport
}

// ProtoImport is one that another one imports.
type ProtoImport struct {
	Name   string // in the import
	Source string // where the registry has it
	Text   string
}

// ProtoOfRegistry is where a proto of the catalogs comes from, and the id of the one that was there.
type ProtoOfRegistry struct {
	Registry *Registry
	Ref      SchemaRef
	ID       int
}

// registrySubjects are the protos of registries that grpc bindings name, each once. Those that cannot be had are reported.
func (c *compiler) registrySubjects() (all []entry[subject]) {
	type key struct {
		registry *Registry
		ref      SchemaRef
	}
	seen := map[key]bool{}
	for b := range c.graph.each {
		var refs named[[]subjectRef]
		switch spec := b.spec.(type) {
		case *grpcServer:
			refs = spec.Catalog
		case *grpcClient:
			refs = spec.Catalog
		}
		for _, named := range refs {
			registry := c.registries[named.name.value]
			if registry == nil {
				continue
			}
			for _, r := range named.value {
				ref, at, ok := c.registryRef(r)
				if !ok || registry.URL == "" || seen[key{registry, ref}] {
					continue
				}
				seen[key{registry, ref}] = true
				if s, ok := c.fetch(registry, ref, at); ok {
					all = append(all, s)
				}
			}
		}
	}
	return all
}

// registryRef is what a grpc binding names in a registry.
func (c *compiler) registryRef(r subjectRef) (ref SchemaRef, at text, ok bool) {
	var version schemaVersion
	switch {
	case r.Subject.given == r.ID.given:
		c.report.problem(r.at, "%s must have one of `subject` and `id`", r.place)
		return ref, at, false
	case r.ID.given && r.Version.given:
		c.report.problem(r.Version.position, "%s has no effect: an id is of one version; remove it", r.Version.place)
		return ref, at, false
	}
	if r.Version.ok {
		if wrong := version.parse(r.Version.value); wrong != "" {
			c.report.problem(r.Version.position, "%s %s, as a schema registry has them: `%s` is neither", r.Version.place, wrong, r.Version.raw)
			return ref, at, false
		}
	}
	at = r.Subject
	if r.ID.given {
		at = r.ID.text
	}
	return SchemaRef{Subject: r.Subject.value, ID: numberOf(r.ID.text), Version: numberOf(r.Version)}, at, at.ok
}

// fetch asks a registry for a proto.
func (c *compiler) fetch(registry *Registry, ref SchemaRef, at text) (s entry[subject], ok bool) {
	if c.options.Protos == nil {
		c.unread = true
		c.report.warn(at.position, "%s: the methods of %s are not known here: catalog `%s` is asked for its protos by run, and by check --connect", at.place, ref, registry.Catalog)
		return s, false
	}
	p, err := c.options.Protos(registry, ref)
	if err != nil {
		c.unread = true
		c.report.cause(err, at.position, "%s: no proto: %v; check the `url` and the credentials of the catalog, and what it has", at.place, err)
		return s, false
	}
	c.registryProtos = append(c.registryProtos, ProtoOfRegistry{registry, ref, p.ID})
	name := at
	name.value = cmp.Or(ref.Subject, fmt.Sprint(ref))
	return entry[subject]{name, subject{fetched: &p, catalog: registry.Catalog}}, true
}
