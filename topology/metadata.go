package topology

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"kafkagrpc/wire"
)

// metadataValue is a value that metadata must have: a text, or bytes as base64.
type metadataValue struct {
	plain  text
	Base64 encoded `yaml:"base64" need:"true" doc:"the bytes of a value"`
}

// encoded are bytes as base64, with or without the padding at the end.
type encoded struct {
	text
	bytes string
}

func (*encoded) regexp() string { return `^[A-Za-z0-9+/]*={0,2}$` }

func (e *encoded) parse(value string) string {
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return "must be base64, such as AAEC"
	}
	e.bytes = string(decoded)
	return ""
}

func (m *metadataValue) decode(d *decoder, n ast.Node, at position, p place) {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		if pairs, ok := d.pairs(n, p); ok {
			d.fields(pairs, at, fieldsOf(valueOf(m)), p)
		}
	default:
		d.scalar(n, &m.plain, p, "")
	}
}

func (m *metadataValue) shape() object {
	bytes, _ := (&shapes{}).mapping(fieldsOf(valueOf(m)))
	return object{{"anyOf", []object{word(&text{}, ""), bytes}}}
}

// condition is one `when` of a route of a binding that knows calls.
type condition struct {
	method   MethodPattern
	metadata wire.Metadata // all of it
}

// conditions are those of a route; one without `when` takes all.
func (c *compiler) conditions(whens []methodWhen) []condition {
	if len(whens) == 0 {
		return []condition{{method: "*"}}
	}
	all := make([]condition, len(whens))
	for i, w := range whens {
		all[i] = condition{w.Method.pattern(), c.wanted(w.Metadata)}
	}
	return all
}

// wanted is the metadata that a route wants.
func (c *compiler) wanted(given named[metadataValue]) (all wire.Metadata) {
	for _, m := range given {
		name := metadataName{m.name}
		if wrong := name.parse(m.name.value); wrong != "" {
			c.report.problem(m.name.position, "%s: the name %s, not `%s`", m.name.place, wrong, m.name.value)
			continue
		}
		value := m.value.plain.value
		binary := strings.HasSuffix(name.text.value, "-bin")
		switch {
		case m.value.Base64.ok:
			value = m.value.Base64.bytes
		case !m.value.plain.ok:
			continue
		case binary:
			c.report.problem(m.value.plain.position, "%s: a name that ends in -bin has bytes as its value; write them as {base64: ...}", m.value.plain.place)
			continue
		}
		all = append(all, wire.Field{Name: name.text.value, Value: value})
	}
	return all
}

// Takes reports whether a call has the metadata that the route wants. values are those of a name.
func (r NorthRoute) Takes(values func(name string) []string) bool {
	return !slices.ContainsFunc(r.Metadata, func(f wire.Field) bool { return !slices.Contains(values(f.Name), f.Value) })
}

// has reports whether a record carries metadata.
func has(record wire.Record, f wire.Field) bool {
	for _, h := range record.Headers {
		name, found := strings.CutPrefix(h.Name, metaPrefix)
		if !found || !strings.EqualFold(name, f.Name) {
			continue
		}
		if !strings.HasSuffix(f.Name, "-bin") {
			if string(h.Value) == f.Value {
				return true
			}
			continue
		}
		for part := range strings.SplitSeq(string(h.Value), ",") {
			if value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(part, "=")); err == nil && string(value) == f.Value {
				return true
			}
		}
	}
	return false
}

// metaPrefix begins the headers of metadata in records.
const metaPrefix = "meta:"

// metadataNames are what is told of metadata that a route wants: a value may be a secret.
func metadataNames(m wire.Metadata) []string {
	return each(m, func(f wire.Field) string { return f.Name })
}

// ofMetadata is how people are told of it.
func ofMetadata(m wire.Metadata) string {
	if len(m) == 0 {
		return ""
	}
	return " metadata " + strings.Join(metadataNames(m), ", ")
}
