package payload

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Protobuf takes values that are the bare message.
type Protobuf struct{ unframed }

// NewProtobuf is the protobuf of a message. unknown counts for what is read.
func NewProtobuf(message protoreflect.MessageDescriptor, unknown UnknownFields) *Protobuf {
	return &Protobuf{unframed{message, typesOf(message), unknown}}
}

// Decode implements Decoder. The message is the value as it is, unless fields are left out of it.
func (p *Protobuf) Decode(_ context.Context, value []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(p.message)
	if err := (proto.UnmarshalOptions{Resolver: p.types, DiscardUnknown: bool(p.unknown)}).Unmarshal(value, m); err != nil {
		return nil, &Error{Reason: fmt.Sprintf("it is no %s: %s", p.message.FullName(), reasonOf(err))}
	}
	if p.unknown == RefuseUnknown {
		if path, unknown := unknownIn(m, "$"); unknown != nil {
			number, _, _ := protowire.ConsumeTag(unknown)
			return nil, &Error{Path: path, Reason: fmt.Sprintf("unknown field %d", number)}
		}
		return value, nil
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, &Error{Reason: reasonOf(err)}
	}
	return encoded, nil
}

// Encode implements Encoder.
func (*Protobuf) Encode(message []byte) ([]byte, error) { return message, nil }

// unknownIn finds fields that a message, or one in it, does not know, and the path of the message that has them; nil: none.
func unknownIn(m protoreflect.Message, path string) (at string, unknown protoreflect.RawFields) {
	if u := m.GetUnknown(); len(u) > 0 {
		return path, u
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		in := path + "." + f.TextName()
		switch {
		case f.IsMap():
			if f.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				at, unknown = unknownIn(v.Message(), fmt.Sprintf("%s[%q]", in, k.String()))
				return unknown == nil
			})
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				if at, unknown = unknownIn(v.List().Get(i).Message(), fmt.Sprintf("%s[%d]", in, i)); unknown != nil {
					break
				}
			}
		default:
			at, unknown = unknownIn(v.Message(), in)
		}
		return unknown == nil
	})
	return at, unknown
}
