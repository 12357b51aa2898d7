package payload

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// FramedAvroEncoder writes messages as records of Avro with the framing of the schema of the moment, field by field as FramedAvro reads
// them. A field that is not set is null where the schema takes it, or its default. A field that is set and not in the schema is an error:
// nothing of a message is lost.
func FramedAvroEncoder(of protoreflect.MessageDescriptor, schema func() *Schema) Encoder {
	return framedAvroEncoder{of, schema}
}

type framedAvroEncoder struct {
	of     protoreflect.MessageDescriptor
	schema func() *Schema
}

func (e framedAvroEncoder) Encode(message []byte) ([]byte, error) {
	s := e.schema()
	if err := s.Holds(FormatAvro, e.of.FullName()); err != nil {
		return nil, err
	}
	m := dynamicpb.NewMessage(e.of)
	if err := proto.Unmarshal(message, m); err != nil {
		return nil, &Error{Reason: "it is no " + string(e.of.FullName())}
	}
	w := avroWriter{trail: newTrail(len(message)), out: s.frame()}
	if err := w.record(s.avro, m); err != nil {
		return nil, err
	}
	return w.out, nil
}

// avroWriter writes Avro's binary form.
type avroWriter struct {
	trail
	out []byte
}

func (w *avroWriter) long(v int64) { w.out = binary.AppendVarint(w.out, v) }

func (w *avroWriter) bytes(v []byte) {
	w.long(int64(len(v)))
	w.out = append(w.out, v...)
}

func (w *avroWriter) record(t *avroType, m protoreflect.Message) error {
	known := map[protoreflect.FieldDescriptor]bool{}
	for i := range t.fields {
		f := &t.fields[i]
		field := fieldNamed(m.Descriptor(), f.name)
		if oneof := m.Descriptor().Oneofs().ByName(protoreflect.Name(f.name)); field == nil && oneof != nil {
			field = m.WhichOneof(oneof)
		}
		known[field] = true
		err := w.within(avroStep{name: f.name}, func() error {
			if field == nil || field.HasPresence() && !m.Has(field) {
				return w.absent(f)
			}
			return w.value(f.typ, m.Get(field), field)
		})
		if err != nil {
			return err
		}
	}
	var lost protoreflect.FieldDescriptor
	m.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !known[field] && (lost == nil || field.Number() < lost.Number()) {
			lost = field
		}
		return true
	})
	if lost != nil {
		return w.within(avroStep{name: string(lost.Name())}, func() error { return w.fail("is set, and no field of %s", t) })
	}
	return nil
}

// absent writes a field that the message does not have: as null, or else as its default.
func (w *avroWriter) absent(f *avroField) error {
	if f.typ.kind == "null" {
		return nil
	}
	isNull := func(b *avroType) bool { return b.kind == "null" }
	if i := slices.IndexFunc(f.typ.branches, isNull); i >= 0 {
		w.long(int64(i))
		return nil
	}
	if !f.hasDefault {
		return w.fail("is not set, and has neither null nor a default in the schema")
	}
	return w.constant(f.typ, f.fallback)
}

// value writes what a field holds: one value, a list or a map.
func (w *avroWriter) value(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) error {
	switch {
	case t.kind == "union":
		return w.union(t, v, of)
	case of.IsMap():
		if t.kind != "map" {
			return w.misfit(t, of)
		}
		return w.mapValue(t, v.Map(), of)
	case of.IsList():
		if t.kind != "array" {
			return w.misfit(t, of)
		}
		return w.list(t, v.List(), of)
	}
	return w.single(t, v, of)
}

func (w *avroWriter) misfit(t *avroType, of protoreflect.FieldDescriptor) error {
	return w.fail("is %s, which does not fit %s of the schema", kindOf(of), t)
}

// union writes a value as the first type that takes it: one of its name before one of its kind, and those before the rest.
func (w *avroWriter) union(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) error {
	rank := func(b *avroType) int {
		switch {
		case of.IsList() || of.IsMap():
			return 0
		case b.name != "" && (of.Message() != nil && string(of.Message().Name()) == b.simple() || of.Enum() != nil && string(of.Enum().Name()) == b.simple()):
			return 0
		case kin(b) == kinOf(of):
			return 1
		}
		return 2
	}
	order := make([]int, len(t.branches))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return rank(t.branches[a]) - rank(t.branches[b]) })
	var wrong error
	mark, steps := len(w.out), len(w.steps)
	for _, i := range order {
		if t.branches[i].kind == "null" {
			continue
		}
		w.long(int64(i))
		err := w.value(t.branches[i], v, of)
		if err == nil {
			return nil
		}
		if wrong == nil {
			wrong = err
		}
		w.out, w.steps = w.out[:mark], w.steps[:steps]
	}
	if wrong == nil {
		wrong = w.misfit(t, of)
	}
	return wrong
}

// inner writes a value of a list or a map, whose field says that it is one of many.
func (w *avroWriter) inner(t *avroType, v protoreflect.Value, of protoreflect.FieldDescriptor) error {
	if t.kind == "union" {
		return w.union(t, v, singular{of})
	}
	return w.single(t, v, of)
}

// singular is a repeated field as one of its elements has it.
type singular struct{ protoreflect.FieldDescriptor }

func (singular) IsList() bool { return false }
func (singular) IsMap() bool  { return false }

func (w *avroWriter) list(t *avroType, all protoreflect.List, of protoreflect.FieldDescriptor) error {
	if all.Len() > 0 {
		w.long(int64(all.Len()))
	}
	for i := range all.Len() {
		if err := w.within(avroStep{index: i}, func() error { return w.inner(t.element, all.Get(i), of) }); err != nil {
			return err
		}
	}
	w.long(0)
	return nil
}

// mapValue writes the pairs in the order of their keys, as text.
func (w *avroWriter) mapValue(t *avroType, all protoreflect.Map, of protoreflect.FieldDescriptor) error {
	var keys []protoreflect.MapKey
	all.Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, key)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	if len(keys) > 0 {
		w.long(int64(len(keys)))
	}
	for _, key := range keys {
		err := w.within(avroStep{name: key.String(), isKey: true}, func() error {
			w.bytes([]byte(key.String()))
			return w.inner(t.element, all.Get(key), of.MapValue())
		})
		if err != nil {
			return err
		}
	}
	w.long(0)
	return nil
}

// constant writes the default of a field.
func (w *avroWriter) constant(t *avroType, v any) error {
	if t.kind == "union" {
		mark := len(w.out)
		for i, b := range t.branches {
			w.long(int64(i))
			if w.constant(b, v) == nil {
				return nil
			}
			w.out = w.out[:mark]
		}
		return w.fail("has a default that none of its types takes")
	}
	switch v := v.(type) {
	case nil:
		if t.kind == "null" {
			return nil
		}
	case bool:
		if t.kind == "boolean" {
			w.out = append(w.out, map[bool]byte{true: 1}[v])
			return nil
		}
	case int32:
		if t.kind == "int" {
			w.long(int64(v))
			return nil
		}
	case int64:
		if t.kind == "long" {
			w.long(v)
			return nil
		}
	case float32:
		if t.kind == "float" {
			w.out = binary.LittleEndian.AppendUint32(w.out, math.Float32bits(v))
			return nil
		}
	case float64:
		if t.kind == "double" {
			w.out = binary.LittleEndian.AppendUint64(w.out, math.Float64bits(v))
			return nil
		}
	case string:
		switch i := slices.Index(t.symbols, v); {
		case t.kind == "string":
			w.bytes([]byte(v))
			return nil
		case t.kind == "enum" && i >= 0:
			w.long(int64(i))
			return nil
		}
	case []byte:
		switch t.kind {
		case "bytes":
			w.bytes(v)
			return nil
		case "fixed":
			w.out = append(w.out, v...)
			return nil
		}
	case []any:
		if t.kind == "array" {
			return w.constants(len(v), func(i int) error { return w.constant(t.element, v[i]) })
		}
	case map[string]any:
		return w.constantPairs(t, v)
	}
	return w.fail("has a default that does not fit %s", t)
}

func (w *avroWriter) constants(n int, element func(i int) error) error {
	if n > 0 {
		w.long(int64(n))
	}
	for i := range n {
		if err := element(i); err != nil {
			return err
		}
	}
	w.long(0)
	return nil
}

func (w *avroWriter) constantPairs(t *avroType, v map[string]any) error {
	switch t.kind {
	case "map":
		var keys []string
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		return w.constants(len(keys), func(i int) error {
			w.bytes([]byte(keys[i]))
			return w.constant(t.element, v[keys[i]])
		})
	case "record":
		for i := range t.fields {
			f := &t.fields[i]
			inner, given := v[f.name]
			if !given {
				inner = f.fallback
			}
			if err := w.constant(f.typ, inner); err != nil {
				return err
			}
		}
		return nil
	}
	return w.fail("has a default that does not fit %s", t)
}
