package payload

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// FramedAvro reads records of Avro with a schema registry's framing into a message, field by field: each record's field goes into the
// message's field of its name, or of the name that it has in JSON. What stands in the record and not in the message is refused, or passed
// over where unknown says so.
//
// A value fits a field that can hold that very value: any number goes into any numeric field that can represent it exactly. A null leaves its
// field out. A union fits where the type that is chosen in it does; into a oneof of its name it goes to the member that is named as the
// type, or to the only one of its kind.
//
// The message is written as it is read, so that it takes no more memory than the two of them.
func FramedAvro(schemas Schemas, into protoreflect.MessageDescriptor, unknown UnknownFields) Decoder {
	return framedAvro{framed{schemas}, into, bool(unknown)}
}

type framedAvro struct {
	framed
	into   protoreflect.MessageDescriptor
	ignore bool
}

func (d framedAvro) Decode(ctx context.Context, value []byte) ([]byte, error) {
	s, rest, err := d.schema(ctx, value, FormatAvro)
	if err != nil {
		return nil, err
	}
	m := avroMessage{avroReader: newAvroReader(rest), ignore: d.ignore}
	t, err := m.branch(s.avro)
	if err != nil {
		return nil, err
	}
	if t.kind != "record" {
		return nil, &Error{Reason: fmt.Sprintf("it is %s by its schema %d, and not a record", t, s.ID)}
	}
	if err := m.record(t, d.into); err != nil {
		return nil, err
	}
	if n := len(m.in); n > 0 {
		return nil, &Error{Reason: fmt.Sprintf("it has %d bytes more than a %s of its schema %d", n, t, s.ID)}
	}
	return m.out, nil
}

// avroMessage writes the message that a record fits.
type avroMessage struct {
	avroReader
	out    []byte
	ignore bool
}

// part is what a field has become in out.
type part struct {
	field      protoreflect.FieldDescriptor
	begin, end int
}

// record writes the fields of a message, in the order of their numbers: the same content makes the same bytes whatever the order in the
// schema of its writer.
func (m *avroMessage) record(t *avroType, into protoreflect.MessageDescriptor) error {
	start := len(m.out)
	var parts []part
	for i := range t.fields {
		f := &t.fields[i]
		err := m.within(avroStep{name: f.name}, func() error {
			p, err := m.recordField(f, into)
			if err != nil || p.field == nil {
				return err
			}
			if err := m.clash(parts, p); err != nil {
				return err
			}
			parts = append(parts, p)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if required := into.RequiredNumbers(); required.Len() > 0 {
		for i := range required.Len() {
			missing := required.Get(i)
			if !slices.ContainsFunc(parts, func(p part) bool { return p.field.Number() == missing && p.end > p.begin }) {
				return m.fail("lacks %s, which %s requires", into.Fields().ByNumber(missing).Name(), into.FullName())
			}
		}
	}
	m.order(start, parts)
	return nil
}

// recordField writes one field of a record, and tells into which field of the message it went: nil for none.
func (m *avroMessage) recordField(f *avroField, into protoreflect.MessageDescriptor) (part, error) {
	begin := len(m.out)
	if field := fieldNamed(into, f.name); field != nil {
		err := m.field(f.typ, field)
		return part{field, begin, len(m.out)}, err
	}
	if oneof := into.Oneofs().ByName(protoreflect.Name(f.name)); oneof != nil && !oneof.IsSynthetic() {
		field, err := m.oneof(f.typ, oneof)
		return part{field, begin, len(m.out)}, err
	}
	if !m.ignore {
		return part{}, m.fail("is no field of %s", into.FullName())
	}
	return part{}, m.skip(f.typ)
}

func fieldNamed(of protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if field := of.Fields().ByName(protoreflect.Name(name)); field != nil {
		return field
	}
	return of.Fields().ByJSONName(name)
}

// clash says that a field was there already, or another one of its oneof.
func (m *avroMessage) clash(parts []part, p part) error {
	for _, other := range parts {
		if other.field == p.field {
			return m.fail("is field %s of %s, as another field of the record is", p.field.Name(), p.field.Parent().FullName())
		}
		if oneof := p.field.ContainingOneof(); oneof != nil && oneof == other.field.ContainingOneof() && p.end > p.begin && other.end > other.begin {
			return m.fail("is set together with %s, and %s takes one of them", other.field.Name(), oneof.FullName())
		}
	}
	return nil
}

// order sorts the parts of a message that begins at start.
func (m *avroMessage) order(start int, parts []part) {
	byNumber := func(a, b part) int { return int(a.field.Number()) - int(b.field.Number()) }
	if slices.IsSortedFunc(parts, byNumber) {
		return
	}
	slices.SortFunc(parts, byNumber)
	unsorted := slices.Clone(m.out[start:])
	m.out = m.out[:start]
	for _, p := range parts {
		m.out = append(m.out, unsorted[p.begin-start:p.end-start]...)
	}
}

// field writes a field, or nothing for null.
func (m *avroMessage) field(t *avroType, into protoreflect.FieldDescriptor) error {
	t, err := m.branch(t)
	switch {
	case err != nil:
		return err
	case t.kind == "null":
		return nil
	case into.IsMap():
		if t.kind != "map" {
			return m.misfit(t, into)
		}
		return m.mapField(t, into)
	case into.IsList():
		if t.kind != "array" {
			return m.misfit(t, into)
		}
		return m.list(t, into)
	}
	return m.single(t, into, into.HasPresence())
}

func (m *avroMessage) misfit(t *avroType, into protoreflect.FieldDescriptor) error {
	return m.fail("is %s, which does not fit %s %s", t, kindOf(into), into.FullName())
}

// kindOf names what a field holds.
func kindOf(f protoreflect.FieldDescriptor) string {
	name := f.Kind().String()
	switch {
	case f.IsMap():
		return "map"
	case f.Message() != nil:
		name = string(f.Message().FullName())
	case f.Enum() != nil:
		name = "enum " + string(f.Enum().FullName())
	}
	if f.IsList() {
		name = "repeated " + name
	}
	return name
}

func (m *avroMessage) list(t *avroType, into protoreflect.FieldDescriptor) error {
	mark := -1
	if into.IsPacked() {
		m.out = protowire.AppendTag(m.out, into.Number(), protowire.BytesType)
		mark = len(m.out)
	}
	err := m.blocks(func(i int) error {
		return m.within(avroStep{index: i}, func() error {
			element, err := m.element(t.element)
			if err != nil {
				return err
			}
			if mark >= 0 {
				_, err := m.scalar(element, into)
				return err
			}
			return m.single(element, into, true)
		})
	})
	if err != nil || mark < 0 {
		return err
	}
	m.measure(mark)
	return nil
}

// element is the type of the next element of an array or a map, which cannot be null.
func (m *avroMessage) element(t *avroType) (*avroType, error) {
	t, err := m.branch(t)
	if err == nil && t.kind == "null" {
		return nil, m.fail("is null, and there is no null in a repeated field or a map")
	}
	return t, err
}

// mapField writes an entry for each pair.
func (m *avroMessage) mapField(t *avroType, into protoreflect.FieldDescriptor) error {
	return m.blocks(func(int) error {
		key, err := m.bytes()
		if err != nil {
			return err
		}
		return m.within(avroStep{name: string(key), isKey: true}, func() error {
			m.out = protowire.AppendTag(m.out, into.Number(), protowire.BytesType)
			mark := len(m.out)
			if err := m.mapKey(string(key), into.MapKey()); err != nil {
				return err
			}
			element, err := m.element(t.element)
			if err != nil {
				return err
			}
			if err := m.single(element, into.MapValue(), true); err != nil {
				return err
			}
			m.measure(mark)
			return nil
		})
	})
}

// mapKey writes the key of an entry, which is text in Avro and in JSON.
func (m *avroMessage) mapKey(key string, into protoreflect.FieldDescriptor) error {
	m.out = protowire.AppendTag(m.out, into.Number(), wireType(into))
	switch into.Kind() {
	case protoreflect.StringKind:
		return m.text(key)
	case protoreflect.BoolKind:
		if key != "true" && key != "false" {
			return m.fail("has a key that is neither true nor false")
		}
		m.out = protowire.AppendVarint(m.out, protowire.EncodeBool(key == "true"))
		return nil
	}
	if v, err := strconv.ParseUint(key, 10, 64); err == nil {
		if fitsInteger(into.Kind(), false, v) {
			m.out = appendInteger(m.out, into.Kind(), v)
			return nil
		}
	} else if v, err := strconv.ParseInt(key, 10, 64); err == nil && fitsInteger(into.Kind(), true, uint64(v)) {
		m.out = appendInteger(m.out, into.Kind(), uint64(v))
		return nil
	}
	return m.fail("has a key that is no %s", into.Kind())
}

// single writes a value with its tag. One that says no more than its absence is left out, unless it is to be seen.
func (m *avroMessage) single(t *avroType, into protoreflect.FieldDescriptor, seen bool) error {
	begin := len(m.out)
	if into.Message() == nil {
		m.out = protowire.AppendTag(m.out, into.Number(), wireType(into))
		zero, err := m.scalar(t, into)
		if zero && !seen {
			m.out = m.out[:begin]
		}
		return err
	}
	if into.Kind() == protoreflect.GroupKind {
		m.out = protowire.AppendTag(m.out, into.Number(), protowire.StartGroupType)
		err := m.message(t, into)
		m.out = protowire.AppendTag(m.out, into.Number(), protowire.EndGroupType)
		return err
	}
	m.out = protowire.AppendTag(m.out, into.Number(), protowire.BytesType)
	mark := len(m.out)
	if err := m.message(t, into); err != nil {
		return err
	}
	m.measure(mark)
	return nil
}

// measure puts the length of what was written since mark before it.
func (m *avroMessage) measure(mark int) {
	n := len(m.out) - mark
	size := protowire.SizeVarint(uint64(n))
	m.out = append(m.out, make([]byte, size)...)
	copy(m.out[mark+size:], m.out[mark:mark+n])
	protowire.AppendVarint(m.out[:mark], uint64(n))
}
