package topology

import (
	"reflect"
	"strings"
)

// field is one key of a struct's schema.
type field struct {
	reflect.StructField
	key   string
	value reflect.Value
}

// fieldsOf are the keys of a struct, with those of the structs embedded in it.
func fieldsOf(v reflect.Value) []field {
	var fields []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && f.Tag.Get("yaml") == "" {
			if f.Type.Kind() == reflect.Struct {
				fields = append(fields, fieldsOf(v.Field(i))...)
			}
		} else if key := f.Tag.Get("yaml"); key != "" {
			fields = append(fields, field{f, key, v.Field(i)})
		}
	}
	return fields
}

// within are the fields of the mapping that a key leads to.
func within(fields []field, key string) (inner []field) {
	for _, f := range fields {
		if rest, ok := strings.CutPrefix(f.key, key+"."); ok {
			inner = append(inner, field{f.StructField, rest, f.value})
		}
	}
	return inner
}

// head is the key of a field in the mapping that it is in, or leads to.
func (f field) head() string {
	key, _, _ := strings.Cut(f.key, ".")
	return key
}
