package payload

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/avro"
)

// avroType is a type of an Avro schema, with the names in it resolved: types that name each other are a graph with circles.
type avroType struct {
	kind    string // null, boolean, int, long, float, double, bytes, string, record, enum, array, map, union or fixed
	logical string
	name    string // full name of a record, an enum or a fixed
	scale   int    // of a decimal
	size    int    // of a fixed

	fields   []avroField
	element  *avroType // of an array or a map
	branches []*avroType
	symbols  []string
}

type avroField struct {
	name       string
	typ        *avroType
	fallback   any // its default as the library has it, where it has one
	hasDefault bool
}

func (t *avroType) String() string {
	switch {
	case t.name != "":
		return t.kind + " " + t.name
	case t.logical != "":
		return t.kind + " (" + t.logical + ")"
	}
	return t.kind
}

// simple is the name without its namespace.
func (t *avroType) simple() string { return t.name[strings.LastIndexByte(t.name, '.')+1:] }

func parseAvro(text string, references []string) (t *avroType, err error) {
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("the parser failed on it: %v", p)
		}
	}()
	var known avro.SchemaCache
	for _, reference := range references {
		if _, err := known.Parse(reference); err != nil {
			return nil, fmt.Errorf("a schema that it refers to: %w", err)
		}
	}
	schema, err := known.Parse(text)
	if err != nil {
		return nil, err
	}
	if len(references) > 0 {
		// With the definitions of what it names in itself.
		if schema, err = schema.Root().Schema(); err != nil {
			return nil, err
		}
	}
	root := schema.Root()
	b := avroBuilder{nodes: map[string]*avro.SchemaNode{}, types: map[string]*avroType{}}
	b.collect(root)
	return b.build(root, ""), b.wrong
}

// avroBuilder turns a tree whose leaves may be names into the graph that they mean.
type avroBuilder struct {
	nodes map[string]*avro.SchemaNode // by full name
	types map[string]*avroType
	wrong error
}

// children are the nodes below one. What a node has that its type has no use for says nothing.
func children(n *avro.SchemaNode) []*avro.SchemaNode {
	var all []*avro.SchemaNode
	switch n.Type {
	case "record", "error":
		for i := range n.Fields {
			all = append(all, &n.Fields[i].Type)
		}
	case "union":
		for i := range n.Branches {
			all = append(all, &n.Branches[i])
		}
	case "array":
		all = append(all, n.Items)
	case "map":
		all = append(all, n.Values)
	}
	return all
}

func fullName(n *avro.SchemaNode) string {
	if n.Namespace == "" || strings.Contains(n.Name, ".") {
		return n.Name
	}
	return n.Namespace + "." + n.Name
}

func isNamed(kind string) bool {
	return kind == "record" || kind == "error" || kind == "enum" || kind == "fixed"
}

func (b *avroBuilder) collect(n *avro.SchemaNode) {
	if isNamed(n.Type) {
		b.nodes[fullName(n)] = n
	}
	for _, inner := range children(n) {
		b.collect(inner)
	}
}

// build makes the type of a node. A name counts in the namespace that it stands in first.
func (b *avroBuilder) build(n *avro.SchemaNode, namespace string) *avroType {
	t := &avroType{kind: n.Type, logical: n.LogicalType, scale: n.Scale, size: n.Size, symbols: n.Symbols}
	switch n.Type {
	case "null", "boolean", "int", "long", "float", "double", "bytes", "string":
	case "array":
		t.element = b.build(n.Items, namespace)
	case "map":
		t.element = b.build(n.Values, namespace)
	case "union":
		for i := range n.Branches {
			t.branches = append(t.branches, b.build(&n.Branches[i], namespace))
		}
	case "record", "error", "enum", "fixed":
		name := fullName(n)
		if known := b.types[name]; known != nil {
			return known
		}
		if t.kind == "error" {
			t.kind = "record"
		}
		t.name = name
		b.types[name] = t
		namespace = strings.TrimSuffix(name[:strings.LastIndexByte(name, '.')+1], ".")
		for i := range n.Fields {
			f := &n.Fields[i]
			t.fields = append(t.fields, avroField{f.Name, b.build(&f.Type, namespace), f.Default, f.HasDefault})
		}
	default:
		for _, name := range []string{namespace + "." + n.Type, n.Type} {
			if known := b.types[name]; known != nil {
				return known
			}
			if node := b.nodes[name]; node != nil {
				return b.build(node, node.Namespace)
			}
		}
		b.wrong = errors.Join(b.wrong, fmt.Errorf("type %s is nowhere defined", n.Type))
	}
	return t
}
