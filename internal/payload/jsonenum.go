package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// unknownEnum finds a name that an enum of the message does not have. Where protojson leaves out unknown fields it leaves out such a name, too: the
// message would say something else than the value.
func (j *JSON) unknownEnum(value []byte) error {
	if !mayHoldEnum(j.message, map[protoreflect.FullName]bool{}) {
		return nil
	}
	var v any
	if err := json.NewDecoder(bytes.NewReader(value)).Decode(&v); err != nil { // protojson took it: only its depth can be wrong
		return &Error{Path: jsonPath(value, deepest(value)), Reason: tooDeep}
	}
	if e := j.enumInMessage(j.message, v); e != nil {
		return &Error{Path: clipPath("$" + e.Path), Reason: e.Reason}
	}
	return nil
}

const anyName = "google.protobuf.Any"

// hasOwnJSON reports whether the JSON of a message is not that of its fields.
func hasOwnJSON(m protoreflect.MessageDescriptor) bool {
	return m.FullName().Parent() == "google.protobuf"
}

// mayHoldEnum reports whether a message, or one in it, may have a field of an enum.
func mayHoldEnum(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[m.FullName()] || hasOwnJSON(m) {
		return m.FullName() == anyName
	}
	seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Enum() != nil || f.Message() != nil && mayHoldEnum(f.Message(), seen) {
			return true
		}
	}
	return false
}

// enumInMessage is unknownEnum of the JSON of a message, with a path from there; nil: there is none.
func (j *JSON) enumInMessage(m protoreflect.MessageDescriptor, v any) *Error {
	object, _ := v.(map[string]any)
	if m.FullName() == anyName {
		url, _ := object["@type"].(string)
		if found, err := j.types.FindMessageByURL(url); err == nil {
			m = found.Descriptor()
		}
	}
	if hasOwnJSON(m) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		f := m.Fields().ByJSONName(name)
		if f == nil {
			f = m.Fields().ByTextName(name)
		}
		if f == nil || f.Enum() == nil && f.Message() == nil {
			continue
		}
		if e := j.enumInField(f, object[name]); e != nil {
			return &Error{"." + name + e.Path, e.Reason}
		}
	}
	return nil
}

func (j *JSON) enumInField(f protoreflect.FieldDescriptor, v any) *Error {
	switch {
	case f.IsMap():
		pairs, _ := v.(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(pairs)) {
			if e := j.enumInValue(f.MapValue(), pairs[key]); e != nil {
				return &Error{fmt.Sprintf("[%q]", key) + e.Path, e.Reason}
			}
		}
	case f.IsList():
		elements, _ := v.([]any)
		for i, element := range elements {
			if e := j.enumInValue(f, element); e != nil {
				return &Error{fmt.Sprintf("[%d]", i) + e.Path, e.Reason}
			}
		}
	default:
		return j.enumInValue(f, v)
	}
	return nil
}

// enumInValue looks at one value of a field.
func (j *JSON) enumInValue(f protoreflect.FieldDescriptor, v any) *Error {
	if f.Message() != nil {
		return j.enumInMessage(f.Message(), v)
	}
	name, isName := v.(string)
	if f.Enum() == nil || !isName || f.Enum().Values().ByName(protoreflect.Name(name)) != nil {
		return nil
	}
	return &Error{Reason: fmt.Sprintf("invalid value for enum field %s: %.100q", f.Name(), name)}
}
