package topology

import (
	"slices"
	"sync/atomic"

	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Protos are the files of all subjects of all catalogs, with all that they import, each once. Where subjects define
// the same name, the first one counts. It resolves names as [protodesc.Resolver] wants it. Copies of it are the same, also after Take. Safe for
// concurrent use.
type Protos struct {
	current *atomic.Pointer[[]linker.File]
}

// files are those of the moment.
func (p Protos) files() []linker.File {
	if p.current == nil {
		return nil
	}
	return *p.current.Load()
}

// Take replaces the files by others: those of the same configuration, read again.
func (p Protos) Take(others Protos) {
	files := others.files()
	p.current.Store(&files)
}

func newProtos() Protos {
	p := Protos{new(atomic.Pointer[[]linker.File])}
	p.current.Store(new([]linker.File))
	return p
}

// add takes over a file and what it imports.
func (p Protos) add(f linker.File) {
	files := p.files()
	if f == nil || slices.ContainsFunc(files, func(known linker.File) bool { return known.Path() == f.Path() }) {
		return
	}
	files = append(slices.Clone(files), f)
	p.current.Store(&files)
	for i := range f.Imports().Len() {
		p.add(f.FindImportByPath(f.Imports().Get(i).Path()))
	}
}

// FindFileByPath implements [protodesc.Resolver].
func (p Protos) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	for _, f := range p.files() {
		if f.Path() == path {
			return f, nil
		}
	}
	return nil, protoregistry.NotFound
}

// FindDescriptorByName implements [protodesc.Resolver].
func (p Protos) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	for _, f := range p.files() {
		if d := f.FindDescriptorByName(name); d != nil {
			return d, nil
		}
	}
	return nil, protoregistry.NotFound
}
