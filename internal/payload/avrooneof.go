package payload

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// oneof writes the member of a oneof that a union means, and tells which: nil for null.
func (m *avroMessage) oneof(t *avroType, of protoreflect.OneofDescriptor) (protoreflect.FieldDescriptor, error) {
	t, err := m.branch(t)
	if err != nil || t.kind == "null" {
		return nil, err
	}
	into := memberFor(t, of)
	if into == nil {
		return nil, m.fail("is %s, which is not one member of oneof %s: none has its name, and not one alone its kind", t, of.FullName())
	}
	return into, m.single(t, into, true)
}

// memberFor is the member of a oneof that is named as a type, or the only one of its kind; nil where there is none.
func memberFor(t *avroType, of protoreflect.OneofDescriptor) (into protoreflect.FieldDescriptor) {
	name := t.simple()
	if name == "" {
		name = t.kind
	}
	alike := 0
	for i := range of.Fields().Len() {
		f := of.Fields().Get(i)
		named := string(f.Name()) == name || f.JSONName() == name ||
			f.Message() != nil && string(f.Message().Name()) == name || f.Enum() != nil && string(f.Enum().Name()) == name
		if named {
			return f
		}
		if kinOf(f) == kin(t) {
			into = f
			alike++
		}
	}
	if alike != 1 {
		return nil
	}
	return into
}

// kin is what a type is at its simplest.
func kin(t *avroType) string {
	switch t.kind {
	case "int", "long":
		switch {
		case isTimestamp(t), t.logical == "date":
			return "google.protobuf.Timestamp"
		case isTimeOfDay(t):
			return "google.protobuf.Duration"
		}
		return "whole"
	case "float", "double":
		return "fraction"
	case "fixed":
		return "bytes"
	}
	return t.kind
}

// kinOf is what a field holds at its simplest.
func kinOf(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return "boolean"
	case protoreflect.StringKind:
		return "string"
	case protoreflect.BytesKind:
		return "bytes"
	case protoreflect.EnumKind:
		return "enum"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "fraction"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch name := f.Message().FullName(); name {
		case "google.protobuf.Timestamp", "google.protobuf.Duration":
			return string(name)
		}
		if wraps(f.Message()) {
			return kinOf(f.Message().Fields().ByNumber(1))
		}
		return "record"
	}
	return "whole"
}
