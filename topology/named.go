package topology

import (
	"reflect"

	"github.com/goccy/go-yaml/ast"
)

// named is a mapping whose keys are chosen by the user, in the order of the file.
type named[T any] []entry[T]

type entry[T any] struct {
	name  text
	value T
}

func (*named[T]) element() any { return new(T) }

func (e *named[T]) decode(d *decoder, n ast.Node, at position, p place) {
	pairs, _ := d.pairs(n, p)
	for _, pair := range pairs {
		v := entry[T]{name: pair.key}
		d.value(pair.value, pair.key.position, reflect.ValueOf(&v.value).Elem(), p.key(pair.key.value), "")
		*e = append(*e, v)
	}
}

func (e named[T]) names() []string {
	var names []string
	for _, v := range e {
		names = append(names, v.name.value)
	}
	return names
}

func (e named[T]) get(name string) (*T, bool) {
	for i := range e {
		if e[i].name.value == name {
			return &e[i].value, true
		}
	}
	return nil, false
}
