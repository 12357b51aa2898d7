package payload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile/parser"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxIndexes bounds how deep a message may stand in others.
const maxIndexes = 64

// FramedProtobuf reads messages with a schema registry's framing: the id, then the indexes of the message in the file that the id stands
// for. It has to have the full name of the one that is wanted; its fields may be newer, and protobuf reads what is left.
func FramedProtobuf(schemas Schemas, want protoreflect.FullName, protobuf Decoder) Decoder {
	return framedProtobuf{framed{schemas}, want, protobuf}
}

type framedProtobuf struct {
	framed
	want     protoreflect.FullName
	protobuf Decoder
}

func (d framedProtobuf) Decode(ctx context.Context, value []byte) ([]byte, error) {
	s, rest, err := d.schema(ctx, value, FormatProtobuf)
	if err != nil {
		return nil, err
	}
	indexes, message, err := readIndexes(rest)
	if err != nil {
		return nil, err
	}
	name, ok := nameAt(s.proto, indexes)
	switch {
	case !ok:
		return nil, &Error{Reason: fmt.Sprintf("its schema %d has no message at %v", s.ID, indexes)}
	case name != d.want:
		return nil, &Error{Reason: fmt.Sprintf("it is a %s by its schema %d, not a %s", name, s.ID, d.want)}
	}
	return d.protobuf.Decode(ctx, message)
}

// readIndexes reads the place of a message in its file: a count and as many indexes, zigzag; a single 0 stands for the first message.
func readIndexes(rest []byte) (indexes []int, message []byte, err error) {
	wrong := &Error{Reason: "it has no message indexes after the id of its schema"}
	count, n := binary.Varint(rest)
	if n <= 0 || count < 0 || count > maxIndexes {
		return nil, nil, wrong
	}
	rest = rest[n:]
	if count == 0 {
		return []int{0}, rest, nil
	}
	for range count {
		index, n := binary.Varint(rest)
		if n <= 0 || index < 0 || index > 1<<20 {
			return nil, nil, wrong
		}
		indexes, rest = append(indexes, int(index)), rest[n:]
	}
	return indexes, rest, nil
}

func appendIndexes(head []byte, indexes []int) []byte {
	if slices.Equal(indexes, []int{0}) {
		return append(head, 0)
	}
	head = binary.AppendVarint(head, int64(len(indexes)))
	for _, index := range indexes {
		head = binary.AppendVarint(head, int64(index))
	}
	return head
}

// parseProto reads a file without what it imports: the names of its messages need nothing else.
func parseProto(text string) (file *descriptorpb.FileDescriptorProto, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, fmt.Errorf("the parser failed on it: %v", p)
		}
	}()
	handler := reporter.NewHandler(reporter.NewReporter(func(err reporter.ErrorWithPos) error { return err }, nil))
	tree, err := parser.Parse("schema.proto", strings.NewReader(text), handler)
	if err != nil {
		return nil, err
	}
	result, err := parser.ResultFromAST(tree, false, handler)
	if err != nil {
		return nil, err
	}
	if len(result.FileDescriptorProto().GetMessageType()) == 0 {
		return nil, errors.New("it has no message")
	}
	return result.FileDescriptorProto(), nil
}

// declared are the messages of a list that are written as such: the entries of maps have no index.
func declared(all []*descriptorpb.DescriptorProto) []*descriptorpb.DescriptorProto {
	return slices.DeleteFunc(slices.Clone(all), func(m *descriptorpb.DescriptorProto) bool { return m.GetOptions().GetMapEntry() })
}

// nameAt is the full name of the message at some indexes.
func nameAt(file *descriptorpb.FileDescriptorProto, indexes []int) (protoreflect.FullName, bool) {
	name, messages := protoreflect.FullName(file.GetPackage()), file.GetMessageType()
	for _, index := range indexes {
		messages = declared(messages)
		if index >= len(messages) {
			return "", false
		}
		name = name.Append(protoreflect.Name(messages[index].GetName()))
		messages = messages[index].GetNestedType()
	}
	return name, true
}

// indexesOf are those of the message with a full name, nil for none.
func indexesOf(file *descriptorpb.FileDescriptorProto, name protoreflect.FullName) []int {
	var find func(within protoreflect.FullName, messages []*descriptorpb.DescriptorProto, path []int) []int
	find = func(within protoreflect.FullName, messages []*descriptorpb.DescriptorProto, path []int) []int {
		for i, m := range declared(messages) {
			full, here := within.Append(protoreflect.Name(m.GetName())), append(slices.Clone(path), i)
			if full == name {
				return here
			}
			if found := find(full, m.GetNestedType(), here); found != nil {
				return found
			}
		}
		return nil
	}
	return find(protoreflect.FullName(file.GetPackage()), file.GetMessageType(), nil)
}

// FramedProtobufEncoder writes messages of a name with the framing of the schema of the moment, or says that it has no such message.
func FramedProtobufEncoder(name protoreflect.FullName, protobuf Encoder, schema func() *Schema) Encoder {
	return framedEncoder{protobuf, func() ([]byte, error) {
		s := schema()
		if err := s.Holds(FormatProtobuf, name); err != nil {
			return nil, err
		}
		return appendIndexes(s.frame(), indexesOf(s.proto, name)), nil
	}}
}

// Holds says why values of a message cannot be written with the schema, or nil.
func (s *Schema) Holds(format Format, name protoreflect.FullName) error {
	if s.Format != format {
		return fmt.Errorf("schema %d is of %s, not of %s", s.ID, s.Format, format)
	}
	if err := s.Check(); err != nil {
		return err
	}
	switch {
	case format == FormatProtobuf && indexesOf(s.proto, name) == nil:
		return fmt.Errorf("schema %d has no message %s", s.ID, name)
	case format == FormatAvro && s.avro.kind != "record":
		return fmt.Errorf("schema %d is of a %s, not of a record as messages are", s.ID, s.avro.kind)
	}
	return nil
}
