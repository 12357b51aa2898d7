package payload

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// typesOf are the types that messages in google.protobuf.Any, and extensions, can have: those of the file of a message and of all that it imports.
func typesOf(message protoreflect.MessageDescriptor) *dynamicpb.Types {
	files := new(protoregistry.Files)
	addFile(files, message.ParentFile())
	return dynamicpb.NewTypes(files)
}

func addFile(files *protoregistry.Files, file protoreflect.FileDescriptor) {
	if file == nil || file.IsPlaceholder() {
		return
	}
	if _, err := files.FindFileByPath(file.Path()); err == nil {
		return
	}
	_ = files.RegisterFile(file) // of two files with one name the first counts
	for i := range file.Imports().Len() {
		addFile(files, file.Imports().Get(i).FileDescriptor)
	}
}
