package topology

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on what is read. They are far above any real configuration and keep a hostile file from costing
// memory or time: the YAML parser needs time that grows with the square of the number of tokens.
const (
	maxFileBytes = 1 << 20 // also of a proto or a keystore
	maxTokens    = 20_000
	maxDepth     = 64
)

// readBounded reads a file of at most maxFileBytes.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFileBytes)
	}
	return data, nil
}

// ReadFile reads a file as Load reads those that a configuration names.
func ReadFile(path string) ([]byte, error) { return readRegular(path) }

// readRegular is readBounded for the files that a configuration names: a pipe or a device among them would block.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return readBounded(path)
}

// parse turns the bytes of a configuration into the body of its only YAML document, or reports why it cannot.
func parse(r *report, data []byte) (ast.Node, bool) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) {
		r.problem(position{}, "the file is not UTF-8 text")
		return nil, false
	}
	var tokens token.Tokens
	var tree *ast.File
	err := caught("the YAML parser", func() (err error) {
		if tokens = lexer.Tokenize(string(data)); len(tokens) > maxTokens {
			return nil
		}
		// Duplicate keys are found by the decoder, which reports them together with everything else.
		tree, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
		return err
	})
	if len(tokens) > maxTokens {
		r.problem(position{}, "the file has more than %d YAML tokens; split it", maxTokens)
		return nil, false
	}
	if err != nil {
		at, message := position{}, err.Error()
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			at, message = tokenPosition(syntax.GetToken()), syntax.GetMessage()
		}
		r.cause(err, at, "this is not YAML: %s", message)
		return nil, false
	}
	var bodies []ast.Node
	for _, doc := range tree.Docs {
		if _, directive := doc.Body.(*ast.DirectiveNode); doc.Body != nil && !directive {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		r.problem(position{}, "the file is empty; it needs at least `name` and `bindings`")
		return nil, false
	case 1:
		return bodies[0], plain(r, bodies[0], 0)
	}
	r.problem(nodePosition(bodies[1]), "a second YAML document begins here; a configuration is one document, so put it into a file of its own")
	return nil, false
}

// plain reports whether a tree is made of mappings, lists and scalars only, nested at most maxDepth deep.
// Aliases are refused altogether: no configuration needs them, and they are what makes small files explode.
func plain(r *report, n ast.Node, depth int) bool {
	if depth > maxDepth {
		r.problem(nodePosition(n), "the file is nested more than %d levels deep", maxDepth)
		return false
	}
	ok := true
	switch n := n.(type) {
	case nil:
	case *ast.MappingNode:
		for _, v := range n.Values {
			ok = plain(r, v, depth) && ok
		}
	case *ast.MappingValueNode:
		switch n.Key.(type) {
		case *ast.MergeKeyNode:
			r.problem(nodePosition(n.Key), "YAML merge keys (<<) are not supported; write the keys out")
			return false
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		default:
			r.problem(nodePosition(n.Key), "a key must be a plain name")
			return false
		}
		return plain(r, n.Value, depth+1)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			ok = plain(r, v, depth+1) && ok
		}
	case *ast.AliasNode, *ast.AnchorNode:
		r.problem(nodePosition(n), "YAML anchors and aliases are not supported; write the value out")
		return false
	case *ast.TagNode:
		r.problem(nodePosition(n), "YAML tags are not supported; leave `%s` away", n.Start.Value)
		return false
	case *ast.StringNode, *ast.LiteralNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode,
		*ast.InfinityNode, *ast.NanNode:
	default:
		r.problem(nodePosition(n), "this kind of YAML node is not supported (%s)", n.Type())
		return false
	}
	return ok
}

func nodePosition(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return nodePosition(m.Values[0].Key) // a block mapping begins at its first key, not at the colon after it
	}
	if v, ok := n.(*ast.MappingValueNode); ok {
		return nodePosition(v.Key)
	}
	if n == nil {
		return position{}
	}
	return tokenPosition(n.GetToken())
}

func tokenPosition(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{}
	}
	return position{t.Position.Line, t.Position.Column}
}

// caught runs f and turns a panic of a library into an error: a file must never end the program.
func caught(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s failed on it: %v", what, p)
		}
	}()
	return f()
}
