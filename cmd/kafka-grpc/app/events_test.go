package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/logtest"
)

const eventsFile = `name: x
catalogs:
  protos: {type: filesystem, options: {subjects: {echo: {path: proto/echo.proto}}}}
  registry: {type: schema-registry, options: {url: "%[1]s"}}
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
    routes:
      - when: [{topic: avro, reply-to: avro-replies}]
        with: {method: grpc.examples.echo.Echo/UnaryEcho, request: {encoding: avro, catalog: {registry: []}}, reply: {encoding: avro, catalog: {registry: [{subject: %[3]s}]}}}
      - when: [{topic: protobuf, reply-to: protobuf-replies}]
        with: {method: grpc.examples.echo.Echo/UnaryEcho, request: {encoding: protobuf, catalog: {registry: []}}, reply: {encoding: protobuf, catalog: {registry: [{id: 2}]}}}
      - when: [{topic: json, reply-to: json-replies}]
        with: {method: grpc.examples.echo.Echo/UnaryEcho, request: {encoding: json, catalog: {registry: []}}, reply: {encoding: json, catalog: {registry: [{subject: texts, version: 1}]}}}
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %[4]s}}
`

// eventsOf is an app whose events have the schemas of a registry, with its Kafka and its service.
func eventsOf(t *testing.T, registry *srfake.Registry, subject string) (app.Config, *kgo.Client, *embedded.Echo) {
	t.Helper()
	c, broker, echo := between(t, func(broker, port string) string {
		return fmt.Sprintf(eventsFile, registry.URL(), broker, subject, port)
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.ConsumeTopics("avro-replies", "protobuf-replies", "json-replies"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return c, client, echo
}

func registryOfEvents(t *testing.T) *srfake.Registry {
	t.Helper()
	registry := srfake.New()
	t.Cleanup(registry.Close)
	registry.SeedSchema("requests", 1, 1, sr.Schema{Schema: `{"type":"record","name":"Request","fields":[{"name":"message","type":["null","string"]}]}`})
	registry.SeedSchema("messages", 1, 2, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; package grpc.examples.echo; message EchoResponse {} message EchoRequest {}`})
	registry.SeedSchema("replies", 1, 3, sr.Schema{Schema: `{"type":"record","name":"Reply","fields":[{"name":"message","type":"string"}]}`})
	registry.SeedSchema("texts", 1, 4, sr.Schema{Type: sr.TypeJSON, Schema: `{}`})
	return registry
}

func TestEventsWithASchemaRegistry(t *testing.T) {
	t.Parallel()
	c, client, echo := eventsOf(t, registryOfEvents(t), "replies")
	start(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	value, err := avro.MustParse(`["null","string"]`).Encode("hi")
	if err != nil {
		t.Fatal(err)
	}
	for topic, value := range map[string]string{"avro": "\x00\x00\x00\x00\x01" + string(value), "protobuf": "\x00\x00\x00\x00\x02\x02\x02\x0a\x02hi", "json": "\x00\x00\x00\x00\x63{\"message\":\"hi\"}"} {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for len(got) < 3 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("only these are answered: %q", got)
		}
		fetches.EachRecord(func(r *kgo.Record) { got[r.Topic] = string(r.Key) + " " + string(r.Value) })
	}
	want := map[string]string{"avro-replies": "k \x00\x00\x00\x00\x03\x04hi", "protobuf-replies": "k \x00\x00\x00\x00\x02\x00\x0a\x02hi", "json-replies": "k \x00\x00\x00\x00\x04{\"message\":\"hi\"}"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the replies (-want +got):\n%s", diff)
	}
	if n := echo.Calls(); n != 3 {
		t.Errorf("the service was called %d times, not 3 times", n)
	}
}

// Events that come again have what reads and writes them still: no registry is asked in a reload.
func TestEventsThatComeAgain(t *testing.T) {
	t.Parallel()
	registry := registryOfEvents(t)
	c, client, _ := eventsOf(t, registry, "replies")
	lines := &logtest.Lines{}
	c.Log = slog.New(slog.NewJSONHandler(lines, nil))
	a := start(t, c)
	registry.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	a.Reload(t.Context(), again(t, c, "request: {encoding: json, catalog: {registry: []}}, reply: {encoding: json, catalog: {registry: [{subject: texts, version: 1}]}}", "request: {encoding: json}, reply: {encoding: json}"))
	a.Reload(t.Context(), again(t, c))
	if n := lines.Count("the configuration is reloaded"); n != 2 {
		t.Fatalf("%d reloads: %s", n, lines)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "json", Key: []byte("k"), Value: []byte("\x00\x00\x00\x00\x63{\"message\":\"hi\"}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		if all := client.PollFetches(ctx).Records(); len(all) > 0 {
			if got := string(all[0].Value); got != "\x00\x00\x00\x00\x04{\"message\":\"hi\"}" {
				t.Errorf("the reply is %q", got)
			}
			return
		}
	}
	t.Errorf("there is no reply: %s", lines)
}

// What no reply can be written with is known at the start.
func TestRepliesNeedTheirSchema(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"gone": "subject gone is unknown to catalog `registry`", "messages": "subject messages of catalog `registry`: schema 2 is of Protobuf, not of Avro",
	} {
		c, _, _ := eventsOf(t, registryOfEvents(t), subject)
		if _, err := app.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with subject %s the start says %v, want %s", subject, err, want)
		}
	}
}
