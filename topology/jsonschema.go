package topology

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Schema is a JSON Schema (2020-12) of the configuration file, made from the structs that the decoder fills. Where a value may hold
// an expression, any text with one is valid, and what names mean is not looked at: Load says more.
func Schema() ([]byte, error) {
	s := &shapes{}
	file, _ := s.value(valueOf(&document{}), "")
	return json.MarshalIndent(slices.Concat(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", "kafka-grpc configuration (zilla.yaml)"},
	}, file, object{{"$defs", append(s.defs, member{"expression", object{
		{"description", "a text with ${{env.NAME}}"}, {"type", "string"}, {"pattern", variable},
	}})}}), "", "  ")
}

// variable is found in a text that an environment variable is put into.
const variable = `\$\{\{`

// shapes are the schemas of values, with those that are told once.
type shapes struct{ defs object }

// A struct that the decoder reads in a way of its own says what there is to read.
type (
	// wrapping structs read what inner points to, and know whether it is there.
	wrapping interface{ inner() any }
	// shaped ones say it themselves.
	shaped interface{ shape() object }
	// varied ones read one of several structs, by `type`.
	varied interface{ variants() map[string]any }
	// mapped ones read a mapping whose keys are the user's, to what element points to.
	mapped interface{ element() any }
	// patterned scalars take what a regular expression matches.
	patterned interface{ regexp() string }
)

// value is the schema of a value, as decoder.value reads it, and whether a key that leads to it must be there.
func (s *shapes) value(v reflect.Value, tag reflect.StructTag) (shape object, needed bool) {
	switch into := v.Addr().Interface().(type) {
	case *anything:
		return object{}, false
	case *binding:
		return s.bindings(), false
	case *ports:
		port := object{{"type", []string{"integer", "string"}}, {"minimum", 1}, {"maximum", 65535}, {"pattern", orVariable((&portRange{}).regexp())}}
		return object{{"anyOf", []object{port, {{"type", "array"}, {"items", port}}}}}, false
	case shaped:
		return into.shape(), false
	case wrapping:
		shape, _ = s.value(valueOf(into.inner()), tag)
		return shape, false
	case varied:
		return s.variants(strings.ToLower(v.Type().Name()), into.variants()), false
	case mapped:
		shape, _ = s.value(valueOf(into.element()), "")
		if tag.Get("need") != "" {
			return object{{"type", "object"}, {"minProperties", 1}, {"additionalProperties", shape}}, true
		}
		return object{{"type", []string{"object", "null"}}, {"additionalProperties", shape}}, false
	case scalar:
		return word(into, tag), false
	}
	if k, isOption := kinds[tag.Get("is")]; isOption && v.Kind() != reflect.Slice {
		if tag.Get("oneof") != "" {
			return word(&text{}, tag), false
		}
		return k.shape, false
	}
	if v.Kind() == reflect.Slice {
		items, _ := s.value(reflect.New(v.Type().Elem()).Elem(), tag)
		if tag.Get("need") != "" {
			return object{{"type", "array"}, {"minItems", 1}, {"items", items}}, true
		}
		return object{{"type", []string{"array", "null"}}, {"items", items}}, false
	}
	return s.mapping(fieldsOf(v))
}

// mapping is the schema of some keys, and whether one of them must be there.
func (s *shapes) mapping(fields []field) (shape object, needed bool) {
	var keys object
	var required []string
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.head()] {
			continue
		}
		seen[f.head()] = true
		var of object
		var must bool
		if f.key == f.head() {
			of, must = s.key(f)
		} else {
			of, must = s.mapping(within(fields, f.head()))
		}
		keys = append(keys, member{f.head(), of})
		if must {
			required = append(required, f.head())
		}
	}
	shape = object{{"type", "object"}, {"properties", keys}, {"additionalProperties", false}}
	if len(required) == 0 {
		shape[0].value = []string{"object", "null"}
		return shape, false
	}
	return append(shape, member{"required", required}), true
}

// key is the schema of one key, with what there is to say of it.
func (s *shapes) key(f field) (shape object, needed bool) {
	refused := func(why string) object {
		return object{{"description", why}, {"not", object{}}, {"doNotSuggest", true}}
	}
	switch instead := f.Tag.Get("instead"); {
	case f.Tag.Get("later") == "*":
		return refused("not supported yet"), false
	case instead != "":
		return refused("not supported: " + instead), false
	}
	shape, needed = s.value(f.value, f.Tag)
	var about object
	description := f.Tag.Get("doc")
	if why := f.Tag.Get("idle"); why != "" {
		description = "has no effect: " + why
		about = append(about, member{"deprecated", true})
	}
	if later := f.Tag.Get("later"); later != "" {
		description += "; not supported yet: " + strings.Join(strings.Fields(later), ", ")
	}
	if description != "" {
		about = append(object{{"description", description}}, about...)
	}
	if given := f.Tag.Get("default"); given != "" {
		about = append(about, member{"default", defaultOf(f, given)})
	}
	return append(about, shape...), needed || f.Tag.Get("need") != ""
}

func defaultOf(f field, given string) any {
	if f.value.Kind() == reflect.Slice {
		return strings.Fields(given)
	}
	if n, err := strconv.Atoi(given); err == nil {
		return n
	}
	return given
}

// word is the schema of a scalar.
func word(of scalar, tag reflect.StructTag) object {
	var values []any
	for _, value := range strings.Fields(tag.Get("oneof")) {
		values = append(values, value)
		if value == "true" || value == "false" {
			values = append(values, value == "true")
		}
		if tag.Get("case") == "any" {
			values = append(values, strings.ToUpper(value))
		}
	}
	if values != nil {
		return enum(values)
	}
	shape := object{{"type", []string{"string", "number", "boolean"}}}
	if p, ok := of.(patterned); ok {
		return append(shape, member{"pattern", orVariable(p.regexp())})
	}
	if tag.Get("need") != "" {
		return append(shape, member{"minLength", 1})
	}
	return shape
}

func enum[T any](values []T) object {
	return object{{"anyOf", []object{{{"enum", values}}, reference("expression")}}}
}

func orVariable(pattern string) string { return pattern + "|" + variable }

func reference(name string) object { return object{{"$ref", "#/$defs/" + name}} }

// variants are structs of which `type` names one.
func (s *shapes) variants(what string, of map[string]any) object {
	types := slices.Sorted(maps.Keys(of))
	shape := object{{"type", "object"}, {"properties", object{{"type", enum(types)}}}, {"required", []string{"type"}}}
	var cases []object
	for _, name := range types {
		cases = append(cases, when(object{{"type", name}}, s.told(what+"-"+name, of[name])))
	}
	return append(shape, member{"allOf", cases})
}

// bindings are structs of which `type` and `kind` name one.
func (s *shapes) bindings() object {
	types := specs()
	var cases []object
	for _, name := range slices.Sorted(maps.Keys(types)) {
		kinds := slices.Sorted(maps.Keys(types[name]))
		cases = append(cases, when(object{{"type", name}}, object{{"properties", object{{"kind", enum(kinds)}}}}))
		for _, kind := range kinds {
			cases = append(cases, when(object{{"type", name}, {"kind", kind}}, s.told("binding-"+name+"-"+kind, types[name][kind])))
		}
	}
	return object{
		{"type", "object"},
		{"properties", object{{"type", enum(slices.Sorted(maps.Keys(types)))}, {"kind", word(&text{}, "")}}},
		{"required", []string{"type", "kind"}},
		{"allOf", cases},
	}
}

// told is a schema that stands elsewhere in the file.
func (s *shapes) told(name string, spec any) object {
	if !slices.ContainsFunc(s.defs, func(m member) bool { return m.key == name }) {
		shape, _ := s.value(valueOf(spec), "")
		s.defs = append(s.defs, member{name, shape})
	}
	return reference(name)
}

// when applies a schema where keys have these values.
func when(keys object, then object) object {
	var names []string
	var is object
	for _, k := range keys {
		names = append(names, k.key)
		is = append(is, member{k.key, object{{"const", k.value}}})
	}
	return object{{"if", object{{"properties", is}, {"required", names}}}, {"then", then}}
}
