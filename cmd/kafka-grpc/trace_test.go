package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/topology"
	"kafkagrpc/wire/rawcodec"
)

// spans is a collector of OpenTelemetry that keeps spans.
type spans struct {
	*httptest.Server
	mu  sync.Mutex
	got []*tracepb.Span
}

func newSpans(t *testing.T) *spans {
	t.Helper()
	s := &spans{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request coltrace.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, of := range request.ResourceSpans {
			for _, by := range of.ScopeSpans {
				s.got = append(s.got, by.Spans...)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// attributes are those of a span as text.
func attributes(all []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range all {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[a.Key] = fmt.Sprint(v.IntValue)
		}
	}
	return out
}

// tree is the spans of a trace, a line each, children below their parents in the order of their beginning. A span whose
// parent is not there stands below "orphan".
func (s *spans) tree(trace []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	children, ids := map[string][]*tracepb.Span{}, map[string]bool{}
	for _, span := range s.got {
		if string(span.TraceId) == string(trace) {
			children[string(span.ParentSpanId)] = append(children[string(span.ParentSpanId)], span)
			ids[string(span.SpanId)] = true
		}
	}
	var b strings.Builder
	var write func(parent, indent string)
	write = func(parent, indent string) {
		below := children[parent]
		slices.SortFunc(below, func(a, b *tracepb.Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
		for _, span := range below {
			fmt.Fprintf(&b, "%s%s [%s]\n", indent, span.Name, strings.ToLower(strings.TrimPrefix(span.Kind.String(), "SPAN_KIND_")))
			write(string(span.SpanId), indent+"  ")
		}
	}
	write("", "")
	for parent := range children {
		if parent != "" && !ids[parent] {
			b.WriteString("orphan:\n")
			write(parent, "  ")
		}
	}
	return b.String()
}

func (s *spans) find(trace []byte, name string) *tracepb.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.got {
		if string(span.TraceId) == string(trace) && span.Name == name {
			return span
		}
	}
	return nil
}

// traced runs the seed's configuration with a service and an embedded Kafka, and sends spans to a collector.
func traced(ctx context.Context, t *testing.T, service string, events io.Writer) (*app.App, *topology.Topology, *spans) {
	t.Helper()
	collector := newSpans(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	dir := t.TempDir()
	top, err := demoTopology(dir, broker, service)
	if err != nil {
		t.Fatal(err)
	}
	for i := range top.Listeners {
		top.Listeners[i].Port = 0 // whoever else runs here wants the seed's
	}
	a, err := app.Start(t.Context(), app.Config{
		Topology: top, StateDir: filepath.Join(dir, "state"), CreateTopics: 1, Stdout: events, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return a, top, collector
}

// One trace from the caller to the service and back, with one span per attempt; a duplicate's trace leads to the one in
// which its key was executed.
func TestTraceFromTheCallerToTheServiceAndBack(t *testing.T) {
	echo, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := echo.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var events bytes.Buffer
	a, _, collector := traced(ctx, t, echo.Addr(), &events)
	client := grpcout.New(grpcout.Options{})
	call := func(trace byte) []byte {
		t.Helper()
		id := []byte(strings.Repeat(string(rune(trace)), 16))
		parent := fmt.Sprintf("00-%x-00f067aa0ba902b7-01", id)
		r := client.Unary(ctx, grpcout.Target{Scheme: "http", Address: a.Addrs()[0].String()}, grpcout.Call{
			Method: demoMethod, Metadata: metadata.Pairs("idempotency-key", "traced", "traceparent", parent), Message: echoMessage("hi"),
		})
		if r.Status != codes.OK {
			t.Fatal(r.Status, r.Message)
		}
		return id
	}
	first, second := call('a'), call('b')
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Stop(); err != nil { // sends all that is left
		t.Fatal(err)
	}
	const below = `orphan:
  grpc.examples.echo.Echo/UnaryEcho [server]
    send echo-requests [producer]
      process echo-requests [consumer]
`
	const reply = `        send echo-responses [producer]
          receive echo-responses [client]
`
	want := below + "        grpc.examples.echo.Echo/UnaryEcho [client]\n" + reply
	if got := collector.tree(first); got != want { // the caller's own span is not ours, and not there
		t.Errorf("the trace of the call is\n%s\nnot\n%s", got, want)
	}
	if got := collector.tree(second); got != below+reply {
		t.Errorf("the trace of the duplicate is\n%s\nnot\n%s", got, below+reply)
	}
	executed, duplicate := collector.find(first, "process echo-requests"), collector.find(second, "process echo-requests")
	if executed == nil || duplicate == nil {
		t.FailNow()
	}
	if len(executed.Links) != 0 || len(duplicate.Links) != 1 || string(duplicate.Links[0].TraceId) != string(first) ||
		string(duplicate.Links[0].SpanId) != string(executed.SpanId) {
		t.Errorf("links %v and %v", executed.Links, duplicate.Links)
	}
	for _, c := range []struct {
		span *tracepb.Span
		want map[string]string
	}{
		{executed, map[string]string{
			"messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
			"messaging.destination.name": "echo-requests", "messaging.destination.partition.id": "0", "messaging.kafka.offset": "0",
			"messaging.consumer.group.name": "example-west_kafka_grpc_remote_server", "rpc.system.name": "grpc", "rpc.method": demoMethod,
			"rpc.response.status_code": "OK", "kafka_grpc.result": "executed",
		}},
		{collector.find(first, "send echo-requests"), map[string]string{"messaging.destination.partition.id": "0", "messaging.kafka.offset": "0"}},
		{duplicate, map[string]string{"kafka_grpc.result": "stored", "messaging.kafka.offset": "2"}},
		{collector.find(first, "send echo-responses"), map[string]string{
			"messaging.operation.type": "send", "messaging.destination.name": "echo-responses", "messaging.destination.partition.id": "0", "messaging.kafka.offset": "1",
		}},
		{collector.find(first, "receive echo-responses"), map[string]string{"messaging.operation.type": "receive", "messaging.kafka.offset": "0", "messaging.destination.partition.id": "0"}},
	} {
		got := attributes(c.span.Attributes)
		for name, want := range c.want {
			if got[name] != want {
				t.Errorf("%s: %s is %q, not %q", c.span.Name, name, got[name], want)
			}
		}
		for _, name := range []string{"messaging.message.conversation_id", "messaging.kafka.message.key"} {
			if !strings.HasPrefix(got[name], "traced-") {
				t.Errorf("%s: %s is %q, of %q", c.span.Name, name, got[name], slices.Sorted(maps.Keys(got)))
			}
		}
		if c.span.EndTimeUnixNano < c.span.StartTimeUnixNano || c.span.EndTimeUnixNano > uint64(time.Now().UnixNano()) {
			t.Errorf("%s lasts from %d to %d", c.span.Name, c.span.StartTimeUnixNano, c.span.EndTimeUnixNano)
		}
	}

	// The seed's file asks for an event of each call.
	type event struct {
		Msg, Method, Result, Status, Topic string
		TraceID                            string `json:"trace_id"`
		CorrelationID                      string `json:"correlation_id"`
	}
	var got []event
	for lines := json.NewDecoder(&events); lines.More(); {
		var e event
		if err := lines.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(e.CorrelationID, "traced-") {
			t.Errorf("correlation id %q", e.CorrelationID)
		}
		e.CorrelationID = ""
		got = append(got, e)
	}
	slices.SortFunc(got, func(a, b event) int { return strings.Compare(a.TraceID+a.Msg, b.TraceID+b.Msg) })
	expected := func(trace []byte, result string) []event {
		e := event{Method: demoMethod, Status: "OK", Topic: "echo-requests", TraceID: fmt.Sprintf("%x", trace)}
		call, request := e, e
		call.Msg, request.Msg, request.Result = "call", "request", result
		return []event{call, request}
	}
	if want := append(expected(first, "executed"), expected(second, "stored")...); !slices.Equal(got, want) {
		t.Errorf("events %+v, not %+v", got, want)
	}
}

// A trace that the caller does not sample has spans only where the sampler asks nobody. It goes all the way to the service and back.
func TestTraceThatIsNotSampledIsPassedOn(t *testing.T) {
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for _, c := range []struct {
		sampler, flags string
		spans          int
	}{{"", "-00", 0}, {"always_on", "-01", 6}} {
		t.Run(c.sampler, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_SAMPLER", c.sampler)
			served := make(chan metadata.MD, 1)
			service := grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
				md, _ := metadata.FromIncomingContext(s.Context())
				served <- md
				var message []byte
				return errors.Join(s.RecvMsg(&message), s.SendMsg(&message))
			}))
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- service.Serve(listener) }()
			defer func() {
				service.Stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			a, top, collector := traced(ctx, t, listener.Addr().String(), io.Discard)
			route := top.Listeners[0].Routes[0]
			client := grpcout.New(grpcout.Options{})
			r := client.Unary(ctx, grpcout.Target{Scheme: "http", Address: a.Addrs()[0].String()}, grpcout.Call{
				Method: demoMethod, Message: echoMessage("hi"), Metadata: metadata.Pairs(
					"idempotency-key", "k", "traceparent", "00-"+trace+"-"+span+"-00", "tracestate", "vendor=value", "baggage", "who=me"),
			})
			if r.Status != codes.OK {
				t.Fatal(r.Status, r.Message)
			}

			// All within the trace name its span, or that of the caller where none is made.
			check := func(where string, get func(string) string) {
				t.Helper()
				parent := get("traceparent")
				if !strings.HasPrefix(parent, "00-"+trace+"-") || !strings.HasSuffix(parent, c.flags) || strings.Contains(parent, span) != (c.spans == 0) {
					t.Errorf("%s: traceparent %q", where, parent)
				}
				if state, baggage := get("tracestate"), get("baggage"); state != "vendor=value" || baggage != "who=me" {
					t.Errorf("%s: tracestate %q, baggage %q", where, state, baggage)
				}
			}
			md := <-served
			check("the service", func(name string) string { return strings.Join(md.Get(name), "|") })
			key := ""
			for _, topic := range []string{route.Topic, route.ReplyTo} {
				records, err := recordsOf(ctx, route.Cluster, topic, 2)
				if err != nil || len(records) != 2 {
					t.Fatal(records, err)
				}
				for _, record := range records {
					key = string(record.Key)
					check(topic, func(name string) string {
						var values []string
						for _, h := range record.Headers {
							if h.Name == name {
								values = append(values, string(h.Value))
							}
						}
						return strings.Join(values, "|")
					})
				}
			}
			row, err := a.Processors()[0].Row(key)
			if err != nil || row.GetTraceId() != trace {
				t.Errorf("the row of %s has trace %q, %v", key, row.GetTraceId(), err)
			}
			for _, close := range []func() error{client.Close, a.Stop} { // the last sends all that is left
				if err := close(); err != nil {
					t.Error(err)
				}
			}
			collector.mu.Lock()
			defer collector.mu.Unlock()
			if len(collector.got) != c.spans {
				t.Errorf("%d spans, not %d: %v", len(collector.got), c.spans, collector.got)
			}
		})
	}
}
