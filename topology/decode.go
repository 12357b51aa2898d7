package topology

import (
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decoder fills the structs of schema.go from the YAML tree. It is strict, and it goes on after a problem, so
// that one run finds all of them. Field tags carry the schema:
//
//	yaml:"key"        the key; a field without it is not read. An embedded struct belongs to its parent, and "a.b" is b in the mapping a
//	need:"true"       the key must be there
//	oneof:"a b"       the values that a scalar takes
//	case:"any"        also in upper case
//	later:"c d"       values, or with `later:"*"` the whole key, that exist but are not supported yet
//	instead:"what"    the key exists elsewhere, and what is written here in its place
//	idle:"why"        the key is read but has no effect, which is a warning
//	doc:"what"        what it is, for editors
//
// and those of option.go.
type decoder struct {
	report *report
	lookup func(string) (string, bool)
	texts  map[any]text // what the file says of options, by the address of the field
	said   map[place]mention
}

// text is a scalar of the file.
type text struct {
	position
	place place
	value string // with environment expressions expanded
	raw   string // as it is written: messages quote this one, because a variable may hold a secret
	ok    bool   // it is there and no problem was found with it
	given bool   // it is there
}

// scalar is a value of one word: text, or a type that embeds it. parse gets the expanded value and says what is
// wrong with it, as the end of a sentence ("must be ..."), or "".
type scalar interface {
	mark(t text)
	parse(value string) string
}

func (t *text) mark(from text)      { *t = from }
func (t *text) parse(string) string { return "" }

// secret is a scalar that no message repeats, also where the file has it in place.
type secret interface{ secret() }

// decodable reads a node in a way of its own. at is where the key that leads to the node stands.
type decodable interface {
	decode(d *decoder, n ast.Node, at position, p place)
}

// anything is a part of the file that is not looked into.
type anything struct{}

func (anything) decode(*decoder, ast.Node, position, place) {}

func (d *decoder) value(n ast.Node, at position, into reflect.Value, p place, tag reflect.StructTag) {
	d.say(p, mention{position: at})
	if l, ok := into.Addr().Interface().(located); ok {
		l.locate(at, p)
	}
	switch v := into.Addr().Interface().(type) {
	case decodable:
		v.decode(d, n, at, p)
		return
	case scalar:
		d.scalar(n, v, p, tag)
		return
	}
	k, isOption := kinds[tag.Get("is")]
	switch {
	case into.Kind() == reflect.Slice:
		d.list(n, at, into, p, tag)
	case isOption:
		d.scalar(n, &option{d.texts, into, k}, p, tag)
	default:
		d.mapping(n, at, into, p)
	}
}

func (d *decoder) scalar(n ast.Node, into scalar, p place, tag reflect.StructTag) {
	t := d.text(n, p)
	if _, hidden := into.(secret); hidden {
		t.raw = "***"
	}
	if t.ok && t.value == "" && tag.Get("need") != "" {
		t.ok = false
		d.report.problem(t.position, "%s is empty", p)
	}
	if tag.Get("case") == "any" {
		t.value = strings.ToLower(t.value)
	}
	if values := strings.Fields(tag.Get("oneof")); t.ok && len(values) > 0 && !slices.Contains(values, t.value) {
		t.ok = false
		if slices.Contains(strings.Fields(tag.Get("later")), t.value) {
			d.report.problem(t.position, "`%s` in %s is not supported yet; use %s", t.raw, p, strings.Join(values, " or "))
		} else {
			d.report.problem(t.position, "%s must be %s, not `%s`", p, strings.Join(values, " or "), t.raw)
		}
	}
	into.mark(t)
	if !t.ok {
		return
	}
	if _, topic := into.(*topicName); topic {
		d.say(p, mention{t.position, t.value})
	}
	if wrong := into.parse(t.value); wrong != "" {
		d.report.problem(t.position, "%s %s, not `%s`", p, wrong, t.raw)
		t.ok = false
		into.mark(t)
	}
}

// text reads a scalar. It is not ok, and a problem is reported, when the node is none.
func (d *decoder) text(n ast.Node, p place) text {
	t := text{position: nodePosition(n), place: p, given: true}
	switch n := n.(type) {
	case *ast.StringNode:
		t.raw = n.Value
	case *ast.LiteralNode:
		t.raw = n.Value.Value
	case *ast.NullNode:
		d.report.problem(t.position, "%s has no value", p)
		return t
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		t.raw = n.GetToken().Value
	default:
		d.report.problem(t.position, "%s must be a single value, not %s", p, kindOf(n))
		return t
	}
	t.value, t.ok = d.expand(t.position, p, t.raw)
	d.say(p, mention{position: t.position})
	return t
}

// mention is where the file says something, be it a key or a value.
type mention struct {
	position
	topic string // that it names
}

func (d *decoder) say(p place, m mention) {
	if d.said != nil {
		d.said[p] = m
	}
}

func (d *decoder) list(n ast.Node, at position, into reflect.Value, p place, tag reflect.StructTag) {
	if _, empty := n.(*ast.NullNode); empty || n == nil {
		into.SetZero()
		return
	}
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		d.report.problem(nodePosition(n), "%s must be a list, not %s", p, kindOf(n))
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(sequence.Values), len(sequence.Values)))
	for i, v := range sequence.Values {
		element := at
		if v != nil {
			element = nodePosition(v)
		}
		d.value(v, element, into.Index(i), p.index(i), tag)
	}
}

func (d *decoder) mapping(n ast.Node, at position, into reflect.Value, p place) {
	if pairs, ok := d.pairs(n, p); ok {
		d.fields(pairs, at, fieldsOf(into), p)
	}
}

func valueOf(spec any) reflect.Value { return reflect.ValueOf(spec).Elem() }

// fields reads the keys of a mapping.
func (d *decoder) fields(pairs []pair, at position, fields []field, p place) {
	found := map[string]bool{}
	for _, pair := range pairs {
		inner := p.key(pair.key.value)
		i := slices.IndexFunc(fields, func(f field) bool { return f.head() == pair.key.value })
		if i < 0 {
			d.unknownKey(pair.key, fields, p)
			continue
		}
		f := fields[i]
		found[f.head()] = true
		if f.key != f.head() {
			d.say(inner, mention{position: pair.key.position})
			if pairs, ok := d.pairs(pair.value, inner); ok {
				d.fields(pairs, pair.key.position, within(fields, f.head()), inner)
			}
			continue
		}
		if f.Tag.Get("later") == "*" {
			d.report.problem(pair.key.position, "%s is not supported yet; remove it", inner)
			continue
		}
		if instead := f.Tag.Get("instead"); instead != "" {
			d.report.problem(pair.key.position, "%s is not supported: %s", inner, instead)
			continue
		}
		if why := f.Tag.Get("idle"); why != "" {
			d.report.warn(pair.key.position, "%s has no effect: %s", inner, why)
		}
		d.value(pair.value, pair.key.position, f.value, inner, f.Tag)
		if f.Tag.Get("need") != "" && emptyList(pair.value, f.value) {
			d.report.problem(pair.key.position, "%s is empty; add an entry", inner)
		}
	}
	d.missing(fields, found, at, p)
}

func (d *decoder) unknownKey(key text, fields []field, p place) {
	var known []string
	for _, f := range fields {
		if !slices.Contains(known, f.head()) {
			known = append(known, f.head())
		}
	}
	where := ""
	if p != (place{}) {
		where = " in " + p.String()
	}
	d.report.problem(key.position, "unknown key `%s`%s%s", key.value, where, hint(key.value, known))
}

// missing reports the keys that must be there, also inside of structs that are not there at all.
func (d *decoder) missing(fields []field, found map[string]bool, at position, p place) {
	for _, f := range fields {
		if found[f.head()] {
			continue
		}
		if f.Tag.Get("need") != "" {
			d.report.problem(at, "%s is missing; add it", p.key(f.key))
			continue
		}
		_, scalar := f.value.Addr().Interface().(scalar)
		_, special := f.value.Addr().Interface().(decodable)
		if !scalar && !special && f.value.Kind() == reflect.Struct {
			d.missing(fieldsOf(f.value), nil, at, p.key(f.key))
		}
	}
}

// pair is one key of a mapping with its value.
type pair struct {
	key   text
	value ast.Node
}

// pairs are the entries of a mapping in order, each key once. A null is an empty mapping; anything else is none,
// which is reported.
func (d *decoder) pairs(n ast.Node, p place) ([]pair, bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case nil, *ast.NullNode:
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.report.problem(nodePosition(n), "%s must be a mapping, not %s", p, kindOf(n))
		return nil, false
	}
	var pairs []pair
	first := map[string]position{}
	for _, v := range values {
		token := v.Key.GetToken()
		key := text{position: tokenPosition(token), place: p, value: token.Value, raw: token.Value, ok: true, given: true}
		if at, twice := first[key.value]; twice {
			d.report.problem(key.position, "key `%s` is given twice in %s, first on line %d; remove one", key.value, p, at.line)
			continue
		}
		first[key.value] = key.position
		pairs = append(pairs, pair{key, v.Value})
	}
	return pairs, true
}

// emptyList reports whether a node leaves a list without entries that could have had some.
func emptyList(n ast.Node, into reflect.Value) bool {
	if into.Kind() != reflect.Slice || into.Len() > 0 {
		return false
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return true
	case *ast.SequenceNode:
		return len(n.Values) == 0
	case *ast.MappingNode:
		return len(n.Values) == 0
	}
	return false
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case nil, *ast.NullNode:
		return "nothing"
	}
	return "a single value"
}
