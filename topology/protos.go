package topology

import (
	"slices"

	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Protos are the files of all subjects of all catalogs, with all that they import, each once. Where subjects define
// the same name, the first one counts. It resolves names as [protodesc.Resolver] wants it.
type Protos struct{ files []linker.File }

// add takes over a file and what it imports.
func (p *Protos) add(f linker.File) {
	if f == nil || slices.ContainsFunc(p.files, func(known linker.File) bool { return known.Path() == f.Path() }) {
		return
	}
	p.files = append(p.files, f)
	for i := range f.Imports().Len() {
		p.add(f.FindImportByPath(f.Imports().Get(i).Path()))
	}
}

// FindFileByPath implements [protodesc.Resolver].
func (p Protos) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	for _, f := range p.files {
		if f.Path() == path {
			return f, nil
		}
	}
	return nil, protoregistry.NotFound
}

// FindDescriptorByName implements [protodesc.Resolver].
func (p Protos) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	for _, f := range p.files {
		if d := f.FindDescriptorByName(name); d != nil {
			return d, nil
		}
	}
	return nil, protoregistry.NotFound
}
