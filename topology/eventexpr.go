package topology

import (
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Expression is a text that has parts of an event in it.
type Expression []Part

// Part is a piece of an expression: Text as it is, or what From names.
type Part struct {
	From  From
	Text  string                         // literal, or the name of a header
	Field []protoreflect.FieldDescriptor // of the request message, from the outside in
}

// From says what a part is.
type From uint8

const (
	FromText From = iota
	FromKey
	FromHeader
	FromValue
)

// Varies reports whether the text can differ from event to event.
func (e Expression) Varies() bool {
	return slices.ContainsFunc(e, func(p Part) bool { return p.From != FromText })
}

// String is the part as a file writes it.
func (p Part) String() string {
	switch p.From {
	case FromKey:
		return "${message.key}"
	case FromHeader:
		return "${message.headers." + p.Text + "}"
	case FromValue:
		return "${message.value." + p.path() + "}"
	}
	return p.Text
}

func (p Part) path() string {
	names := make([]string, len(p.Field))
	for i, f := range p.Field {
		names[i] = string(f.Name())
	}
	return strings.Join(names, ".")
}

var messagePart = regexp.MustCompile(`\$\{[^}]*\}`)

// expression compiles a text with parts of an event. Fields are those of a message, and not looked for where that is nil. It answers nil where
// something is wrong.
func (c *compiler) expression(t text, in protoreflect.MessageDescriptor) Expression {
	var e Expression
	literal := func(s string) {
		if s != "" {
			e = append(e, Part{Text: s})
		}
	}
	rest, ok := t.value, true
	wrong := func(format string, args ...any) {
		c.report.problem(t.position, "%s: "+format, append([]any{t.place}, args...)...)
		ok = false
	}
	for rest != "" {
		at := messagePart.FindStringIndex(rest)
		if at == nil {
			break
		}
		literal(rest[:at[0]])
		found := rest[at[0]:at[1]]
		rest = rest[at[1]:]
		name := strings.TrimSpace(found[2 : len(found)-1])
		header, isHeader := strings.CutPrefix(name, "message.headers.")
		field, isField := strings.CutPrefix(name, "message.value.")
		switch {
		case name == "message.key":
			e = append(e, Part{From: FromKey})
		case isHeader && header != "":
			e = append(e, Part{From: FromHeader, Text: header})
		case isField && field != "" && in == nil:
			e = append(e, Part{From: FromValue})
		case isField && field != "":
			path, problem := fieldPath(in, field)
			if problem != "" {
				wrong("`%s`: %s", found, problem)
				continue
			}
			e = append(e, Part{From: FromValue, Field: path})
		default:
			wrong("unknown expression `%s`; known: ${message.key}, ${message.headers.NAME}, ${message.value.FIELD}", found)
		}
	}
	if strings.Contains(rest, "${") {
		wrong("`${` without `}`; write ${message.key}, ${message.headers.NAME} or ${message.value.FIELD}")
	}
	if literal(rest); !ok {
		return nil
	}
	return e
}

// fieldPath finds a field of a message by a path of names, those of the proto or of its JSON.
func fieldPath(in protoreflect.MessageDescriptor, path string) (fields []protoreflect.FieldDescriptor, problem string) {
	names := strings.Split(path, ".")
	for i, name := range names {
		if in == nil {
			return nil, "`" + names[i-1] + "` is no message, and has no fields"
		}
		f := in.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			f = in.Fields().ByJSONName(name)
		}
		switch {
		case f == nil:
			var known []string
			for i := range in.Fields().Len() {
				known = append(known, string(in.Fields().Get(i).Name()))
			}
			return nil, "message " + string(in.FullName()) + " has no field `" + name + "`" + hint(name, known)
		case f.IsList() || f.IsMap():
			return nil, "field `" + name + "` has many values; name one with a single value"
		}
		fields = append(fields, f)
		in = f.Message()
	}
	if in != nil {
		return nil, "field `" + names[len(names)-1] + "` is a message; name one of its fields"
	}
	return fields, ""
}
