// Command genopenapi describes the plain paths of the views API as an OpenAPI document, on standard output: what they take
// and answer is read from views.proto, with its comments.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "genopenapi: which views.proto, and where to? name both files")
		os.Exit(2)
	}
	if err := generate(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "genopenapi:", err)
		os.Exit(1)
	}
}

type object = map[string]any

func generate(from, to string) error {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), from)
	if err != nil {
		return err
	}
	g := generator{file: files[0], schemas: object{}}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(g.document()); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

type generator struct {
	file    protoreflect.FileDescriptor
	schemas object // by name; those that something refers to
}

func (g *generator) document() object {
	watch := g.operation("Watch", "WatchRequest", "text/event-stream", "recent", "cursor")
	watch["responses"].(object)["200"].(object)["description"] = "Server-sent events: `cursor` at the beginning, `entry` and `removed` for changes, " +
		"`error` at the end where there is one. The id of each is its cursor, which the header Last-Event-ID takes to go on."
	g.schemas["Error"] = object{
		"type": "object", "required": []string{"code", "message"},
		"properties": object{
			"code":    object{"type": "string", "description": "The gRPC code in lower case, such as invalid_argument."},
			"message": object{"type": "string"},
		},
	}
	key := object{"name": "key", "in": "path", "required": true, "schema": object{"type": "string"}, "description": "The key in the table, percent-encoded."}
	get := g.operation("Get", "GetRequest", "application/json")
	get["parameters"] = append([]object{key}, get["parameters"].([]object)...)
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "kafka-grpc views", "version": "v1",
			"description": "What happened to processed idempotency keys. The same is served as the gRPC service " +
				string(g.file.Services().Get(0).FullName()) + ".",
		},
		"paths": object{
			"/v1/keys/{key}": object{"get": get},
			"/v1/keys":       object{"get": g.operation("List", "ListRequest", "application/json", "limit", "cursor")},
			"/v1/keys:watch": object{"get": watch},
			"/v1/stats":      object{"get": g.operation("Stats", "StatsRequest", "application/json")},
			"/v1/keys:retry": object{"post": g.command("Retry")}, "/v1/keys:give-up": object{"post": g.command("GiveUp")},
		},
		"components": object{
			"schemas":         g.schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "Where the admin address has a token."}},
		},
		"security": []object{{}, {"token": []string{}}},
	}
}

// operation describes a path that does what a method of the service does.
func (g *generator) operation(method, request, content string, parameters ...string) object {
	m := g.file.Services().Get(0).Methods().ByName(protoreflect.Name(method))
	in := g.file.Messages().ByName(protoreflect.Name(request))
	query := []object{}
	add := func(f protoreflect.FieldDescriptor) {
		query = append(query, object{"name": string(f.Name()), "in": "query", "schema": g.field(f), "description": g.comment(f)})
	}
	for i := range in.Fields().Len() {
		f := in.Fields().Get(i)
		switch {
		case f.Name() == "filter":
			for j := range f.Message().Fields().Len() {
				add(f.Message().Fields().Get(j))
			}
		case f.Name() == "group":
			add(f)
		default:
			for _, name := range parameters {
				if string(f.Name()) == name {
					add(f)
				}
			}
		}
	}
	failure := object{"description": "What is wrong, and what to do.", "content": object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Error"}}}}
	return object{
		"operationId": method, "summary": g.comment(m), "parameters": query,
		"responses": object{
			"200":     object{"description": "OK", "content": object{content: object{"schema": g.message(m.Output())}}},
			"default": failure,
		},
	}
}

// command describes a path that takes the request of a method as its body.
func (g *generator) command(method string) object {
	o := g.operation(method, "CommandRequest", "application/json")
	delete(o, "parameters")
	o["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": g.message(g.file.Messages().ByName("CommandRequest"))}}}
	return o
}

func (g *generator) comment(d protoreflect.Descriptor) string {
	return strings.Join(strings.Fields(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments), " ")
}

// message refers to the schema of a message, as protobuf's JSON has it.
func (g *generator) message(m protoreflect.MessageDescriptor) object {
	switch m.FullName() {
	case "google.protobuf.Timestamp":
		return object{"type": []string{"string", "null"}, "format": "date-time"}
	case "google.protobuf.Value":
		return object{}
	}
	name := string(m.Name())
	if _, ok := g.schemas[name]; !ok {
		properties := object{}
		g.schemas[name] = object{"type": "object", "properties": properties, "description": g.comment(m)}
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			schema := g.field(f)
			if text := g.comment(f); text != "" && schema["$ref"] == nil {
				schema["description"] = text
			}
			properties[f.JSONName()] = schema
		}
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (g *generator) field(f protoreflect.FieldDescriptor) object {
	var schema object
	switch f.Kind() {
	case protoreflect.MessageKind:
		schema = g.message(f.Message())
	case protoreflect.BoolKind:
		schema = object{"type": "boolean"}
	case protoreflect.Int32Kind, protoreflect.Uint32Kind:
		schema = object{"type": "integer"}
	case protoreflect.Int64Kind:
		schema = object{"type": "string", "format": "int64"} // as protobuf's JSON writes it
	case protoreflect.BytesKind:
		schema = object{"type": "string", "format": "byte"}
	default:
		schema = object{"type": "string"}
	}
	if f.IsList() {
		return object{"type": "array", "items": schema}
	}
	return schema
}
