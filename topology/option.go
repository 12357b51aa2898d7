package topology

import (
	"cmp"
	"reflect"
	"strings"
)

// option is a field of what a binding becomes (Server, Target, Remote, Processing), which the decoder fills by itself. All that is to
// be said of one are its tags, these and those of the decoder:
//
//	is:"kind"        one of kinds; for a list, what its elements are
//	default:"10s"    what counts where the file does not say, as it would say it; none: the zero value
//	json:"name"      its key in JSON, where that is not the key of the file with - for each dot; "-" for none, ",omitempty"
type option struct {
	texts map[any]text
	field reflect.Value
	kind
}

func (o *option) mark(t text) { o.texts[o.field.Addr().Interface()] = t }

func (o *option) parse(value string) string {
	v, wrong := o.read(value)
	if wrong == "" {
		o.field.Set(reflect.ValueOf(v))
	}
	return wrong
}

// setDefaults gives the options below a struct their defaults where they are zero.
func setDefaults(v reflect.Value) {
	for _, f := range fieldsOf(v) {
		given, into := f.Tag.Get("default"), f.value
		if into.Kind() == reflect.Struct {
			setDefaults(into)
		}
		if given == "" || !into.IsZero() {
			continue
		}
		if into.Kind() == reflect.Slice {
			into.Set(reflect.MakeSlice(into.Type(), 1, 1))
			into = into.Index(0)
		}
		if wrong := (&option{field: into, kind: kinds[f.Tag.Get("is")]}).parse(given); wrong != "" {
			panic("topology: the default of " + f.Name + " " + wrong)
		}
	}
}

func withDefaults[T any](options T) T {
	setDefaults(valueOf(&options))
	return options
}

// optionsJSON are the options of a struct, without those of structs in it.
func optionsJSON(of any) object {
	var all object
	for _, f := range fieldsOf(reflect.ValueOf(of)) {
		k, isOption := kinds[f.Tag.Get("is")]
		name, omit, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !isOption || name == "-" || omit != "" && f.value.IsZero() {
			continue
		}
		m := member{key: cmp.Or(name, strings.ReplaceAll(f.key, ".", "-"))}
		if f.value.Kind() == reflect.Slice {
			elements := []any{}
			for i := range f.value.Len() {
				elements = append(elements, k.show(f.value.Index(i).Interface()))
			}
			m.value = elements
		} else {
			m.value = k.show(f.value.Interface())
		}
		all = append(all, m)
	}
	return all
}
