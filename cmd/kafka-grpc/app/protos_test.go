package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

const registryProtoFile = `name: x
catalogs:
  registry: {type: schema-registry, options: {url: %q, max-age: 1}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, catalog: {registry: [{subject: orders}]}, routes: [{when: [{method: shop.v1.Orders/*}], exit: grpc1}]}
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tcp1}
  tcp1: {type: tcp, kind: client, options: {host: 127.0.0.1, port: 1}}
`

// A newer version of a proto is told by reflection when it is reloaded while the app runs. While the registry is away the last one stays, and the log says so once.
func TestNewerProtosOfARegistry(t *testing.T) {
	t.Parallel()
	registry := srfake.New()
	t.Cleanup(registry.Close)
	version := func(methods ...string) sr.Schema {
		text := `syntax = "proto3"; package shop.v1; import "common/item.proto"; service Orders {`
		for _, m := range methods {
			text += " rpc " + m + "(Item) returns (Item);"
		}
		return sr.Schema{Type: sr.TypeProtobuf, Schema: text + " }", References: []sr.SchemaReference{{Name: "common/item.proto", Subject: "items", Version: 1}}}
	}
	registry.SeedSchema("items", 1, 1, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; package shop.v1; message Item {}`})
	registry.SeedSchema("orders", 1, 2, version("Place"))
	path := writeFile(t, fmt.Sprintf(registryProtoFile, registry.URL()))
	load := func(ctx context.Context) (*topology.Topology, error) {
		return topology.Load(path, topology.Options{Protos: schemaregistry.Protos(ctx, patience, nil)})
	}
	top, err := load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	top.Listeners[0].Port = 0
	c := seed(t)
	var log logtest.Lines
	c.Topology, c.Admin, c.Log = top, nil, slog.New(slog.NewJSONHandler(&log, nil))
	newer := make(chan struct{}, 1)
	c.NewerProtos = func() { newer <- struct{}{} }
	a := start(t, c)
	reload := func() {
		t.Helper()
		within(t, newer, &log)
		a.Reload(t.Context(), func() (*topology.Topology, error) {
			again, err := load(t.Context())
			if err == nil {
				again.Listeners[0].Port = 0
			}
			return again, err
		})
	}
	conn, err := grpc.NewClient("passthrough:///"+a.Addrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if got := told(t, conn); got != "Place" {
		t.Errorf("reflection tells of %s", got)
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		over := time.After(patience)
		for !ok() {
			select {
			case <-ticker.C:
			case <-over:
				t.Fatalf("it never came to that: %s\n%s", what, log.String())
			}
		}
	}

	registry.SeedSchema("orders", 2, 3, version("Place", "Cancel"))
	reload()
	if got := told(t, conn); got != "Place Cancel" {
		t.Errorf("reflection tells of %s: %s", got, log.String())
	}

	var down atomic.Bool
	var asked atomic.Int32
	down.Store(true)
	registry.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if !down.Load() {
			return false
		}
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	until("asked while it is away", func() bool { return asked.Load() > 4 }) // each time a few attempts are made
	if got := told(t, conn); got != "Place Cancel" {
		t.Errorf("reflection tells of %s", got)
	}
	down.Store(false)
	until("it is back", func() bool { return log.Count("can be looked up again\"") == 1 })
	if n := log.Count("cannot be looked up again; the last ones stay"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
	registry.SeedSchema("orders", 3, 4, version("Place", "Cancel", "Track"))
	reload()
	if got := told(t, conn); got != "Place Cancel Track" {
		t.Errorf("reflection tells of %s: %s", got, log.String())
	}
}

// within waits for something that was told.
func within(t *testing.T, told <-chan struct{}, log *logtest.Lines) {
	t.Helper()
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatalf("it is not told: %s", log)
	}
}

const registryEventsFile = `name: x
catalogs:
  registry: {type: schema-registry, options: {url: %[1]q, max-age: 1}}
bindings:
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["%[2]s"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    exit: grpc1
    routes: [{when: [{topic: events, reply-to: replies}], with: {method: grpc.examples.echo.Echo/UnaryEcho}}]
  grpc1: {type: grpc, kind: client, catalog: {registry: [{subject: echo}]}, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %[3]s}}
`

// Events follow newer versions of a proto between two calls. One that does not fit changes nothing, and the log says so once.
func TestEventsFollowNewerProtos(t *testing.T) {
	t.Parallel()
	registry := srfake.New()
	t.Cleanup(registry.Close)
	id := 0
	version := func(method, field string) {
		id++
		registry.SeedSchema("echo", id, id, sr.Schema{Type: sr.TypeProtobuf, Schema: fmt.Sprintf(`syntax = "proto3"; package grpc.examples.echo;
			message EchoRequest { string message = 1; string %s = 2; } message EchoResponse { string message = 1; string %[1]s = 2; }
			service Echo { rpc %[2]s(EchoRequest) returns (EchoResponse); }`, field, method)})
	}
	version("UnaryEcho", "first")
	options := topology.Options{Protos: schemaregistry.Protos(t.Context(), patience, nil)}
	c, broker, _ := between(t, func(broker, port string) string { return fmt.Sprintf(registryEventsFile, registry.URL(), broker, port) }, options)
	newer, lines := make(chan struct{}, 1), &logtest.Lines{}
	c.NewerProtos, c.Log = func() { newer <- struct{}{} }, slog.New(slog.NewJSONHandler(lines, nil))
	a := start(t, c)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.ConsumeTopics("replies", "x-remote0-dead-letters"), kgo.UnknownTopicRetries(-1),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	reload := func() {
		t.Helper()
		within(t, newer, lines)
		a.Reload(t.Context(), func() (*topology.Topology, error) { return topology.Load(c.Topology.File, options) })
	}
	// answered is the topic that an event leads to.
	answered := func(value string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "events", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for ctx.Err() == nil {
			if records := client.PollRecords(ctx, 1).Records(); len(records) > 0 {
				return records[0].Topic
			}
		}
		t.Fatalf("no answer to %s: %s", value, lines)
		return ""
	}
	const first, second = `{"message": "hi", "first": "x"}`, `{"message": "hi", "second": "x"}`
	if one, another := answered(first), answered(second); one != "replies" || another != "x-remote0-dead-letters" {
		t.Fatalf("events lead to %s and %s", one, another)
	}

	version("UnaryEcho", "second")
	reload()
	if one, another := answered(first), answered(second); one != "x-remote0-dead-letters" || another != "replies" {
		t.Errorf("events lead to %s and %s: %s", one, another, lines)
	}

	version("AnotherEcho", "second")
	reload()
	if n := lines.Count("is not reloaded"); n != 1 || lines.Count("UnaryEcho") == 0 {
		t.Errorf("that there is no method is told %d times: %s", n, lines)
	}
	if to := answered(second); to != "replies" {
		t.Errorf("an event leads to %s", to)
	}

	version("UnaryEcho", "first")
	reload()
	if to := answered(first); to != "replies" || lines.Count("is not reloaded") != 1 {
		t.Errorf("an event leads to %s: %s", to, lines)
	}
}

// told are the methods of the service, as reflection tells them.
func told(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := reflection.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "shop.v1.Orders"}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var methods []string
	for _, encoded := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(encoded, &file); err != nil {
			t.Fatal(err)
		}
		for _, s := range file.GetService() {
			for _, m := range s.GetMethod() {
				methods = append(methods, m.GetName())
			}
		}
	}
	return strings.Join(methods, " ")
}
