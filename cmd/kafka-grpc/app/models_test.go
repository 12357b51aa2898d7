package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/wire/rawcodec"
)

// modelsFile has topics whose requests have up to 50 bytes, and whose replies have up to 30.
const modelsFile = `name: x
catalogs:
  protos: {type: filesystem, options: {subjects: {echo: {path: proto/echo.proto}}}}
  schemas: {type: inline, options: {subjects: {events-value: {schema: '{"type": "object", "required": ["message"]}'}}}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, catalog: {protos: [{subject: echo}]}, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, routes: [{when: [{method: grpc.examples.echo.Echo/ServerStreamingEcho}], exit: front0, with: {capability: fetch, topic: fetched}}, {exit: front0, with: {capability: produce, topic: requests, reply-to: replies}}]}
  front0:
    type: kafka
    kind: cache_client
    options:
      topics:
        - name: requests
          key: {model: string, pattern: "[a-z ]+"}
          value: {model: protobuf, catalog: {protos: [{subject: echo, record: EchoRequest}]}}
          transforms: [{extract-key: "${message.value.message}"}, {extract-headers: {told: "${message.value.message}"}}]
        - {name: replies, value: {model: string, maxLength: 25}}
        - {name: fetched, value: {model: string, maxLength: 5}}
    exit: cache1
  behind0:
    type: kafka
    kind: cache_client
    options:
      topics:
        - {name: requests, value: {model: string, maxLength: 50}}
        - {name: replies, value: {model: string, maxLength: 30}}
        - {name: events, key: {model: int32}, value: {model: json, catalog: {schemas: [{strategy: topic}]}}}
    exit: cache1
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["%[1]s"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: behind0
    exit: grpc1
    routes:
      - {when: [{topic: requests, reply-to: replies}]}
      - {when: [{topic: events}], with: {method: grpc.examples.echo.Echo/UnaryEcho}}
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %[2]s}}
`

func TestModelsOfTopics(t *testing.T) {
	t.Parallel()
	c, broker, _ := between(t, func(broker, port string) string { return fmt.Sprintf(modelsFile, broker, port) })
	c.Topology.Listeners[0].Port = 0
	a := start(t, c)
	conn, err := grpc.NewClient("passthrough:///"+a.Addrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.ConsumeTopics("requests", "replies", "x-remote0-dead-letters"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	message := func(text string) []byte { return protowire.AppendString([]byte{10}, text) }
	letters := func(n int) string { return strings.Repeat("a", n) }
	ask := func(key string, in []byte) string {
		var out []byte
		err := conn.Invoke(metadata.AppendToOutgoingContext(ctx, "idempotency-key", key), "/grpc.examples.echo.Echo/UnaryEcho", &in, &out)
		if err != nil {
			return status.Code(err).String() + ": " + status.Convert(err).Message()
		}
		return string(out)
	}
	for name, tt := range map[string]struct {
		in   []byte
		want string
	}{
		"fits":              {message("hi there"), string(message("hi there"))},
		"no message":        {[]byte("\x0a\xff"), "InvalidArgument: the message does not fit topic \"requests\": it is no grpc.examples.echo.EchoRequest"},
		"no key":            {[]byte{}, "InvalidArgument: the message has no ${message.value.message}, which is the key of its record on topic \"requests\""},
		"key does not fit":  {message("HI"), "InvalidArgument: the message does not fit topic \"requests\": its key does not fit model string: it does not match ^(?:[a-z ]+)$"},
		"too long behind":   {message(letters(60)), "InvalidArgument: the value does not fit model string of topic requests: it has 62 characters, more than 50"},
		"too long in front": {message(letters(26)), "Internal: the reply in topic \"replies\""},
		"reply is too long": {message(letters(40)), "Internal: the reply of the service cannot be written: the value does not fit model string of topic replies: it has 42 characters, more than 30"},
	} {
		if got := ask(name, tt.in); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}

	for length, want := range map[int]codes.Code{55: codes.InvalidArgument, 41: codes.Internal} {
		stream, err := conn.NewStream(metadata.AppendToOutgoingContext(ctx, "idempotency-key", fmt.Sprint("stream ", length)), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
			"/grpc.examples.echo.Echo/BidirectionalStreamingEcho")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range [][]byte{message("one"), message(letters(length))} {
			if err := stream.SendMsg(&m); err != nil {
				t.Fatal(err)
			}
			var out []byte
			err := stream.RecvMsg(&out)
			if fits := len(m) < 30; fits && string(out) != string(m) || !fits && status.Code(err) != want {
				t.Errorf("%q is answered %q, %v", m, out, err)
			}
		}
	}

	for key, value := range map[string]string{"1": `{"message": "event"}`, "2": `{"text": "event"}`, "x": `{"message": "event"}`} {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "events", Key: []byte(key), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range [][]byte{message(letters(10)), message("ok")} {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "fetched", Value: m}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	fetching, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/grpc.examples.echo.Echo/ServerStreamingEcho")
	if err != nil {
		t.Fatal(err)
	}
	if err := fetching.SendMsg(new([]byte)); err != nil {
		t.Fatal(err)
	}
	var first []byte
	if err := fetching.RecvMsg(&first); err != nil || !strings.HasPrefix(string(first), string(message("ok"))) {
		t.Errorf("the first message that is read is %q, %v", first, err)
	}

	got := map[string]int{}
	want := map[string]int{
		"dead letter of requests: the value does not fit model string of topic requests: it has 62 characters, more than 50":                                            1,
		"dead letter of requests: the value does not fit model string of topic requests: it has 57 characters, more than 50":                                            1,
		"dead letter of requests: the reply of the service cannot be written: the value does not fit model string of topic replies: it has 42 characters, more than 30": 1,
		"dead letter of requests: the reply of the service cannot be written: the value does not fit model string of topic replies: it has 43 characters, more than 30": 1,
		"dead letter of events: the value does not fit model json of topic events: $: it does not fit `required` of the schema":                                         1,
		"dead letter of events: the key does not fit model int32 of topic events: it is no whole number of 32 bits in text":                                             1,
		"request hi there with hi there": 1, "end of hi there": 1, "answer with status 3": 1,
	}
	for len(got) < len(want) {
		fetched := client.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Errorf("%v", err)
			break
		}
		fetched.EachRecord(func(r *kgo.Record) {
			header := func(name string) (value string) {
				for _, h := range r.Headers {
					if h.Key == name {
						value = string(h.Value)
					}
				}
				return value
			}
			switch { // of replies, there is one to each request
			case r.Topic == "replies":
				if id := header("zilla:correlation-id"); r.Value == nil && strings.HasPrefix(id, "too long behind-") {
					got["answer with status "+header("zilla:status")]++
				}
			case r.Topic != "requests":
				if header("kafkagrpc.error.class") != "model" {
					t.Errorf("a dead letter of class %s", header("kafkagrpc.error.class"))
				}
				got["dead letter of "+header("kafkagrpc.error.topic")+": "+header("kafkagrpc.error.reason")]++
			case string(r.Key) != "hi there":
			case r.Value == nil:
				got["end of "+string(r.Key)]++
			default:
				got["request "+string(r.Key)+" with "+header("told")]++
			}
		})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records -want +got:\n%s", diff)
	}
}

// Models change between two calls; a call under way has those that it began with, over any number of reloads.
func TestReloadOfModels(t *testing.T) {
	t.Parallel()
	c, _, _ := between(t, func(broker, port string) string { return fmt.Sprintf(modelsFile, broker, port) })
	c.Topology.Listeners[0].Port = 0
	lines := &logtest.Lines{}
	c.Log = slog.New(slog.NewJSONHandler(lines, nil))
	a := start(t, c)
	conn, err := grpc.NewClient("passthrough:///"+a.Addrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	message := func(text string) []byte { return protowire.AppendString([]byte{10}, text) }
	ask := func(key, text string) string {
		var out []byte
		in := message(text)
		if err := conn.Invoke(metadata.AppendToOutgoingContext(ctx, "idempotency-key", key), "/grpc.examples.echo.Echo/UnaryEcho", &in, &out); err != nil {
			return status.Code(err).String()
		}
		return "OK"
	}
	stream, err := conn.NewStream(metadata.AppendToOutgoingContext(ctx, "idempotency-key", "stream"), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/grpc.examples.echo.Echo/BidirectionalStreamingEcho")
	if err != nil {
		t.Fatal(err)
	}
	told := func(text string) error {
		in, out := message(text), []byte(nil)
		if err := stream.SendMsg(&in); err != nil {
			return err
		}
		return stream.RecvMsg(&out)
	}
	if err := told("one"); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		name    string
		replace []string
		asked   map[string]string
	}{
		{"as it began", nil, map[string]string{"small": "OK", "LARGE": "InvalidArgument"}},
		{"another route", []string{"- {when: [{topic: events}], with: {method: grpc.examples.echo.Echo/UnaryEcho}}", "- {when: [{topic: events}], with: {method: grpc.examples.echo.Echo/UnaryEcho, tombstones: dead-letter}}"}, map[string]string{"small": "OK", "LARGE": "InvalidArgument"}},
		{"another pattern", []string{`"[a-z ]+"`, `"[A-Z ]+"`}, map[string]string{"small": "InvalidArgument", "LARGE": "OK"}},
		{"a bound behind", []string{`"[a-z ]+"`, `"[A-Za-z ]+"`, "maxLength: 50", "maxLength: 8"}, map[string]string{"small": "OK", "A LONG ONE": "InvalidArgument"}},
		{"a wrong schema", []string{`"required": ["message"]`, `"required": "message"`}, map[string]string{"small": "OK", "LARGE": "OK"}},
		{"as it began, again", nil, map[string]string{"small": "OK", "LARGE": "InvalidArgument"}},
	} {
		a.Reload(t.Context(), again(t, c, step.replace...))
		for text, want := range step.asked {
			if got := ask(fmt.Sprint(i, text), text); got != want {
				t.Errorf("%s: %s is answered %s, not %s: %s", step.name, text, got, want, lines)
			}
		}
		if err := told("ok"); err != nil {
			t.Errorf("%s: the stream ends: %v: %s", step.name, err, lines)
		}
	}
	if applied, refused := lines.Count("the configuration is reloaded"), lines.Count("the configuration is not reloaded"); applied != 4 || refused != 1 {
		t.Errorf("%d reloads, and %d that are wrong: %s", applied, refused, lines)
	}
}

const registryModelFile = `name: x
catalogs:
  protos: {type: filesystem, options: {subjects: {echo: {path: proto/echo.proto}}}}
  registry: {type: schema-registry, options: {url: "%[3]s", max-age: 1}}
bindings:
  cache0:
    type: kafka
    kind: cache_client
    options: {topics: [{name: events, key: {model: avro, catalog: {registry: [{subject: keys}]}}, value: {model: json, catalog: {registry: [{strategy: topic}]}}}]}
    exit: cache1
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["%[1]s"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0: {type: kafka-grpc, kind: remote_server, entry: cache0, exit: grpc1, routes: [{when: [{topic: events}], with: {method: grpc.examples.echo.Echo/UnaryEcho}}]}
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %[2]s}}
`

// The schemas of models can be those of a registry, whose latest version is looked up again.
func TestModelsWithASchemaRegistry(t *testing.T) {
	t.Parallel()
	registry := srfake.New()
	t.Cleanup(registry.Close)
	registry.SeedSchema("keys", 1, 1, sr.Schema{Schema: `"string"`})
	registry.SeedSchema("events-value", 1, 2, sr.Schema{Type: sr.TypeJSON, Schema: `{"properties": {"message": {"maxLength": 3}}}`})
	c, broker, _ := between(t, func(broker, port string) string { return fmt.Sprintf(registryModelFile, broker, port, registry.URL()) })
	start(t, c)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.ConsumeTopics("x-remote0-dead-letters"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// refused sends an event, and answers why it is a dead letter.
	refused := func(key, value string) (why string) {
		t.Helper()
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "events", Key: []byte(key), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for why == "" && ctx.Err() == nil {
			client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				for _, h := range r.Headers {
					if h.Key == "kafkagrpc.error.reason" {
						why = string(h.Value)
					}
				}
			})
		}
		return why
	}
	if why := refused("\x02k", `{"message": "long"}`); !strings.Contains(why, "$.message: it does not fit `maxLength`") {
		t.Errorf("refused, as %s", why)
	}
	if why := refused("\x7f", `{"message": "ok"}`); !strings.Contains(why, "the key does not fit model avro of topic events") {
		t.Errorf("refused, as %s", why)
	}
	registry.SeedSchema("events-value", 2, 3, sr.Schema{Type: sr.TypeJSON, Schema: `{"required": ["other"]}`})
	for why := ""; !strings.Contains(why, "it does not fit `required`"); { // once it is looked up
		if why = refused("\x02k", `{"message": "long"}`); why == "" {
			t.Fatal("the newer version has never come")
		}
	}
}
