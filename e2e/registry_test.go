package e2e

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/encoding/protowire"
)

// schemaRegistry is one that can be away for a while.
type schemaRegistry struct {
	*srfake.Registry
	t       testing.TB
	address string
	server  *http.Server
	served  chan error
}

func newSchemaRegistry(t testing.TB, authorization string) *schemaRegistry {
	t.Helper()
	r := &schemaRegistry{Registry: srfake.NewRegistry(srfake.WithAuth(authorization)), t: t, address: "127.0.0.1:0"}
	r.begin()
	t.Cleanup(r.end)
	return r
}

func (r *schemaRegistry) begin() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.address = listener.Addr().String()
	r.server, r.served = &http.Server{Handler: r.Handler()}, make(chan error, 1)
	go func() { r.served <- r.server.Serve(listener) }()
}

func (r *schemaRegistry) end() {
	if r.server == nil {
		return
	}
	if err := r.server.Close(); err != nil {
		r.t.Error(err)
	}
	if err := <-r.served; !errors.Is(err, http.ErrServerClosed) {
		r.t.Error(err)
	}
	r.server = nil
}

const (
	echoSchema      = `{"type":"record","name":"EchoRequest","namespace":"writer","fields":[{"name":"message","type":"string"}]}`
	echoSchemaNewer = `{"type":"record","name":"EchoRequest","namespace":"writer","fields":[{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"message","type":["null","string"]}]}`
	replySchema     = `{"type":"record","name":"Echoed","fields":[{"name":"source","type":["null","string"]},{"name":"message","type":"string"}]}`
)

// Plain events in Avro and Protobuf, as producers with a schema registry write them, are executed once each, and answered to the byte. Those
// whose schema cannot be asked for wait until it can; those whose schema does not exist are dead letters.
func TestEventsWithASchemaRegistry(t *testing.T) {
	w := newWorld(t)
	registry := newSchemaRegistry(t, "Basic YW5uOnNlY3JldC13b3Jk") // ann:secret-word
	proto, err := os.ReadFile(filepath.Join(w.dir, "proto", "echo.proto"))
	if err != nil {
		t.Fatal(err)
	}
	registry.SeedSchema("avro-events-value", 1, 1, sr.Schema{Schema: echoSchema})
	registry.SeedSchema("framed-events-value", 1, 2, sr.Schema{Schema: string(proto), Type: sr.TypeProtobuf})
	registry.SeedSchema("avro-replies-value", 1, 3, sr.Schema{Schema: replySchema})
	w.onFreePorts()
	w.rewrite("vaults:\n", `  registry:
    type: schema-registry
    options: {url: "http://ann:secret-word@`+registry.address+`"}
vaults:
`, "    routes:\n      - exit: west_grpc_client\n        when:\n          - topic: echo-requests\n", `    routes:
      - exit: west_grpc_client
        when: [{topic: avro-events, reply-to: avro-replies}]
        with:
          scheme: http
          authority: ${{env.ECHO_SERVER_HOST}}:${{env.ECHO_SERVER_PORT}}
          method: grpc.examples.echo.Echo/UnaryEcho
          request: {encoding: avro, unknown-fields: ignore, catalog: {registry: []}}
          reply: {encoding: avro, catalog: {registry: [{strategy: topic}]}}
      - exit: west_grpc_client
        when: [{topic: framed-events, reply-to: framed-replies}]
        with:
          scheme: http
          authority: ${{env.ECHO_SERVER_HOST}}:${{env.ECHO_SERVER_PORT}}
          method: grpc.examples.echo.Echo/UnaryEcho
          request: {encoding: protobuf, catalog: {registry: []}}
          reply: {encoding: protobuf, catalog: {registry: [{subject: framed-events-value, version: 1}]}}
      - exit: west_grpc_client
        when:
          - topic: echo-requests
`)
	w.createTopics(1)
	w.create(1, nil, "avro-events", "avro-replies", "framed-events", "framed-replies")

	stdout, stderr, code := output(t, w.command("check", "-c", filepath.Join(w.dir, "zilla.yaml"), "--connect"))
	if !strings.Contains(stdout, "Avro schema 3") || !strings.Contains(stdout, "Protobuf schema 2") || strings.Contains(stdout+stderr, "secret-word") {
		t.Errorf("check --connect (%d) says\n%s%s", code, stdout, stderr)
	}
	p := w.run()

	client := w.client()
	produce := func(topic, key string, value []byte) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte(key), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var header sr.ConfluentHeader
	frame := func(id int, index []int, rest []byte) []byte {
		t.Helper()
		head, err := header.AppendEncode(nil, id, index)
		if err != nil {
			t.Fatal(err)
		}
		return append(head, rest...)
	}
	encode := func(schema string, v map[string]any) []byte {
		t.Helper()
		value, err := avro.MustParse(schema).Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	message := func(text string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), text)
	}
	replies := func(topic string, want map[string][]byte) {
		t.Helper()
		got := map[string][]byte{}
		for _, r := range w.records(topic, len(want)) {
			got[string(r.Key)] = r.Value
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", topic, diff)
		}
	}
	reply := func(text string) []byte {
		return frame(3, nil, encode(replySchema, map[string]any{"source": nil, "message": text}))
	}

	produce("avro-events", "a", frame(1, nil, encode(echoSchema, map[string]any{"message": "one"})))
	produce("framed-events", "f", frame(2, []int{0}, message("two")))
	produce("framed-events", "wrong", frame(2, []int{1}, message("two")))
	produce("avro-events", "unknown", frame(99, nil, encode(echoSchema, map[string]any{"message": "lost"})))
	produce("avro-events", "bare", []byte(`{"message":"lost"}`))
	replies("avro-replies", map[string][]byte{"a": reply("one")})
	replies("framed-replies", map[string][]byte{"f": frame(2, []int{1}, message("two"))})

	registry.SeedSchema("avro-events-value", 2, 4, sr.Schema{Schema: echoSchemaNewer})
	registry.end()
	produce("avro-events", "newer", frame(4, nil, encode(echoSchemaNewer, map[string]any{"at": time.UnixMilli(5), "message": "later"})))
	p.awaitText("the value of a plain event cannot be read yet")
	produce("avro-events", "known", frame(1, nil, encode(echoSchema, map[string]any{"message": "at once"})))
	replies("avro-replies", map[string][]byte{"a": reply("one"), "known": reply("at once")})
	registry.begin()
	replies("avro-replies", map[string][]byte{"a": reply("one"), "known": reply("at once"), "newer": reply("later")})

	letters := map[string]string{}
	for _, r := range w.records(deadLetterTopic, 3) {
		for _, h := range r.Headers {
			if strings.HasSuffix(h.Name, "reason") {
				letters[string(r.Key)] = string(h.Value)
			}
		}
	}
	for key, want := range map[string]string{
		"unknown": "its schema 99 is unknown to catalog `registry`", "bare": "it begins with byte 123, and not with 0", "wrong": "is a grpc.examples.echo.EchoResponse by its schema 2",
	} {
		if !strings.Contains(letters[key], want) {
			t.Errorf("the dead letter of %s says %q, want %s", key, letters[key], want)
		}
	}
	p.signal(os.Interrupt)
	p.wait()
	for prefix, want := range map[string]int{"call avro-events/": 3, "call framed-events/": 1} {
		if n := w.echo.count(prefix); n != want {
			t.Errorf("there are %d lines %q, not %d", n, prefix, want)
		}
	}
	if strings.Contains(p.output(), "secret-word") {
		t.Error("a password shows in the log")
	}
}

// The protos of grpc bindings come from a schema registry, with what they import. Without one that answers there is no start.
func TestProtosOfASchemaRegistry(t *testing.T) {
	w := newWorld(t)
	registry := newSchemaRegistry(t, "Bearer secret-word")
	proto, err := os.ReadFile(filepath.Join(w.dir, "proto", "echo.proto"))
	if err != nil {
		t.Fatal(err)
	}
	service, messages := string(proto), `syntax = "proto3"; package grpc.examples.echo;`
	for _, message := range []string{"EchoRequest", "EchoResponse"} {
		begin := strings.Index(service, "message "+message+" {")
		end := begin + strings.Index(service[begin:], "}") + 1
		if begin < 0 || end <= begin {
			t.Fatalf("the seed's proto has no %s", message)
		}
		messages += "\n" + service[begin:end]
		service = service[:begin] + service[end:]
	}
	service = strings.Replace(service, "package grpc.examples.echo;", "package grpc.examples.echo;\nimport \"common/messages.proto\";", 1)
	registry.SeedSchema("messages", 1, 1, sr.Schema{Schema: messages, Type: sr.TypeProtobuf})
	registry.SeedSchema("echo", 1, 2, sr.Schema{Schema: service, Type: sr.TypeProtobuf, References: []sr.SchemaReference{{Name: "common/messages.proto", Subject: "messages", Version: 1}}})
	north := w.onFreePorts()
	w.rewrite("  host_filesystem:\n    type: filesystem\n    options:\n      subjects:\n        echo:\n          path: proto/echo.proto\n",
		"  registry:\n    type: karapace\n    options: {url: \"http://"+registry.address+"\", credentials: {headers: {authorization: Bearer secret-word}}}\n",
		"      host_filesystem:\n", "      registry:\n")
	w.createTopics(1)
	check := func(args ...string) (text string, code int) {
		t.Helper()
		out, errs, code := output(t, w.command(append([]string{"check", "-c", filepath.Join(w.dir, "zilla.yaml")}, args...)...))
		return out + errs, code
	}
	if text, code := check(); code != 0 || !strings.Contains(text, "are not known here") {
		t.Errorf("check (%d) says\n%s", code, text)
	}
	if text, code := check("--connect"); code != 0 || !strings.Contains(text, "subject echo of registry") {
		t.Errorf("check --connect (%d) says\n%s", code, text)
	}
	p := w.run()
	out, errs, code := w.grpcurl(north, "-plaintext", "-H", "idempotency-key: one", "-d", `{"message":"hi"}`)
	if code != 0 || !strings.Contains(out, `"hi"`) {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	p.signal(os.Interrupt)
	p.wait()
	if strings.Contains(p.output(), "secret-word") {
		t.Error("a secret is in the log")
	}

	registry.end()
	begun := time.Now()
	_, errs, code = output(t, w.command("run", "-c", filepath.Join(w.dir, "zilla.yaml"), "--listen", "127.0.0.1", "--state-dir", t.TempDir()))
	if code != 1 || !strings.Contains(errs, "no proto: subject echo of catalog `registry`") || !strings.Contains(errs, "connection refused") || strings.Count(errs, "trying again") != 1 {
		t.Errorf("after %v, with exit code %d: %s", time.Since(begun), code, errs)
	}
	if text, code := check("--connect"); code != 1 || !strings.Contains(text, "connection refused") {
		t.Errorf("check --connect (%d) says\n%s", code, text)
	}
}
