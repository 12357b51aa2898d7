package payload

import (
	"bytes"
	"context"
	"fmt"
	"unicode/utf8"

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
	if err := (proto.UnmarshalOptions{Resolver: p.types}).Unmarshal(value, m); err != nil {
		if bytes.HasPrefix(value, []byte{0}) {
			return nil, &Error{Reason: seemsFramed}
		}
		path, _ := brokenAt(value, p.message, 0)
		return nil, &Error{Path: clipPath("$" + path), Reason: reasonOf(err)}
	}
	switch e, unknown := p.unknownIn(m); {
	case e != nil:
		return nil, &Error{Path: clipPath("$" + e.Path), Reason: e.Reason}
	case p.unknown == RefuseUnknown:
		return value, nil
	case unknown:
		if err := (proto.UnmarshalOptions{Resolver: p.types, DiscardUnknown: true}).Unmarshal(value, m); err != nil {
			return nil, &Error{Reason: reasonOf(err)}
		}
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, &Error{Reason: reasonOf(err)}
	}
	return encoded, nil
}

// Encode implements Encoder.
func (*Protobuf) Encode(message []byte) ([]byte, error) { return message, nil }

// unknownIn finds a field that does not fit in a message, or in one in it, with a path from there, and whether there are others that are left out. One
// that the message knows does not fit where it is of another wire type, or a number that a closed enum lacks.
func (p *Protobuf) unknownIn(m protoreflect.Message) (wrong *Error, has bool) {
	for raw := m.GetUnknown(); len(raw) > 0; {
		number, _, n := protowire.ConsumeField(raw)
		switch f := m.Descriptor().Fields().ByNumber(number); {
		case f != nil:
			return &Error{"." + f.TextName(), fmt.Sprintf("field %d has a value that does not fit %s", number, kindOf(f))}, true
		case p.unknown == RefuseUnknown:
			return &Error{"", fmt.Sprintf("unknown field %d", number)}, true
		}
		has, raw = true, raw[n:]
	}
	inner := func(f protoreflect.FieldDescriptor, at string, v protoreflect.Value) bool {
		e, unknown := p.unknownIn(v.Message())
		if e != nil {
			wrong = &Error{"." + f.TextName() + at + e.Path, e.Reason}
		}
		has = has || unknown
		return wrong == nil
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				return inner(f, fmt.Sprintf("[%q]", k.String()), v)
			})
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				if !inner(f, fmt.Sprintf("[%d]", i), v.List().Get(i)) {
					break
				}
			}
		default:
			inner(f, "", v)
		}
		return wrong == nil
	})
	return wrong, has
}

// brokenAt finds the innermost field of a message that cannot be read, as it is cut, or as its text is no UTF-8, with a path from there.
func brokenAt(value []byte, of protoreflect.MessageDescriptor, depth int) (path string, found bool) {
	index := map[protowire.Number]int{}
	for len(value) > 0 {
		number, typ, n := protowire.ConsumeTag(value)
		if n < 0 {
			return "", true
		}
		f := of.Fields().ByNumber(number)
		if f != nil {
			path = "." + f.TextName()
			if f.IsList() || f.IsMap() {
				path += fmt.Sprintf("[%d]", index[number])
				index[number]++
			}
		}
		size := protowire.ConsumeFieldValue(number, typ, value[n:])
		if size < 0 {
			return path, true
		}
		if f != nil && typ == protowire.BytesType {
			inside, _ := protowire.ConsumeBytes(value[n:])
			switch {
			case f.Kind() == protoreflect.StringKind && !utf8.Valid(inside), f.IsList() && wireType(f) != protowire.BytesType && !packs(inside, wireType(f)):
				return path, true
			case f.Kind() == protoreflect.MessageKind && depth < maxDepth:
				if inner, found := brokenAt(inside, f.Message(), depth+1); found {
					return path + inner, true
				}
			}
		}
		value, path = value[n+size:], ""
	}
	return "", false
}

// packs reports whether bytes are values of a wire type.
func packs(packed []byte, typ protowire.Type) bool {
	for len(packed) > 0 {
		n := protowire.ConsumeFieldValue(1, typ, packed)
		if n < 0 {
			return false
		}
		packed = packed[n:]
	}
	return true
}
