package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// tracers makes the spans of a service beside the program, which Jaeger gets at once.
func (j jaeger) tracers(service string) *sdktrace.TracerProvider {
	j.t.Helper()
	exporter, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpointURL(j.otlp))
	if err != nil {
		j.t.Fatal(err)
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))))
	j.t.Cleanup(func() {
		if err := p.Shutdown(context.Background()); err != nil {
			j.t.Error(err)
		}
	})
	return p
}

// tracedEcho is an echo service that makes spans of its own. A key that begins with "flaky-" fails twice before it is answered,
// one with "down-" until the service is up, and one with "gate-" waits until the gate opens.
type tracedEcho struct {
	addr  string
	up    chan struct{}
	begun chan string // keys that wait at the gate
	gate  chan struct{}

	mu    sync.Mutex
	calls map[string]int
}

func startTracedEcho(t testing.TB, j jaeger) *tracedEcho {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &tracedEcho{addr: listener.Addr().String(), up: make(chan struct{}), begun: make(chan string, 1), gate: make(chan struct{}), calls: map[string]int{}}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(e.answer),
		grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(j.tracers("echo")), otelgrpc.WithPropagators(propagator))))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *tracedEcho) answer(_ any, stream grpc.ServerStream) error {
	ctx := stream.Context()
	md, _ := metadata.FromIncomingContext(ctx)
	key := strings.Join(md["idempotency-key"], "")
	e.mu.Lock()
	e.calls[key]++
	calls := e.calls[key]
	e.mu.Unlock()
	oteltrace.SpanFromContext(ctx).SetAttributes(attribute.String("tenant", baggage.FromContext(ctx).Member("tenant").Value()))
	switch {
	case strings.HasPrefix(key, "flaky-") && calls <= 2:
		return status.Error(codes.Unavailable, "not yet")
	case strings.HasPrefix(key, "down-"):
		select {
		case <-e.up:
		default:
			return status.Error(codes.Unavailable, "down")
		}
	case strings.HasPrefix(key, "gate-"):
		select {
		case e.begun <- key:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		select {
		case <-e.gate:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return embedded.AnswerEcho(stream, md)
}

// tracedCaller is a gRPC client with spans of its own.
type tracedCaller struct {
	t      testing.TB
	conn   *grpc.ClientConn
	tracer oteltrace.Tracer
}

func dialTraced(t testing.TB, j jaeger) tracedCaller {
	t.Helper()
	p := j.tracers("caller")
	conn, err := grpc.NewClient("passthrough:///"+plainAddress, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{}), grpc.WaitForReady(true)),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(p), otelgrpc.WithPropagators(propagator))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return tracedCaller{t, conn, p.Tracer("caller")}
}

// call makes a call within a span of this name, and answers its status and the trace's id. Its messages, one or more, are
// echoed.
func (c tracedCaller) call(name, method, key string, messages []string, more ...string) (codes.Code, string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tenant, err := baggage.NewMember("tenant", "blue")
	if err != nil {
		c.t.Fatal(err)
	}
	members, err := baggage.New(tenant)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, root := c.tracer.Start(baggage.ContextWithBaggage(ctx, members), name)
	defer root.End()
	ctx = metadata.AppendToOutgoingContext(ctx, append([]string{"idempotency-key", key}, more...)...)
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+echo+"/"+method)
	if err != nil {
		c.t.Fatal(err)
	}
	for n, text := range messages {
		message := []byte(text)
		if err := stream.SendMsg(&message); err != nil {
			c.t.Fatal(err)
		}
		if n == len(messages)-1 {
			if err := stream.CloseSend(); err != nil {
				c.t.Fatal(err)
			}
		}
		if err = stream.RecvMsg(&message); err == nil && string(message) != text {
			c.t.Errorf("%s: answered %q, not %q", name, message, text)
		}
	}
	for err == nil {
		var extra []byte
		if err = stream.RecvMsg(&extra); err == nil {
			c.t.Errorf("%s: one more answer, %q", name, extra)
		}
	}
	code := codes.OK
	if err.Error() != "EOF" {
		code = status.Code(err)
	}
	return code, root.SpanContext().TraceID().String()
}

// produce writes a request for UnaryEcho by hand, as docs/records.md does.
func (w *world) produce(id string, more ...kgo.RecordHeader) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	headers := []kgo.RecordHeader{
		{Key: "zilla:service", Value: []byte(echo)}, {Key: "zilla:method", Value: []byte("UnaryEcho")},
		{Key: "zilla:reply-to", Value: []byte(replyTopic)}, {Key: "zilla:correlation-id", Value: []byte(id)},
		{Key: "meta:idempotency-key", Value: []byte(id)},
	}
	record := &kgo.Record{Topic: requestTopic, Key: []byte(id), Value: []byte("\n\x02hi"), Headers: append(headers, more...)}
	if err := w.client().ProduceSync(ctx, record).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// all are the records that a topic has by now.
func (w *world) all(topic string) []wire.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := kadm.NewClient(w.client()).ListEndOffsets(ctx, topic)
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return w.records(topic, n)
}

// The trees that the calls of TestTraces have in Jaeger.
const (
	executedTree = `
caller: an order [internal]
  caller: grpc.examples.echo.Echo/UnaryEcho [client] OK
    kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [server] OK
      kafka-grpc: send echo-requests [producer]
        kafka-grpc: process echo-requests [consumer] OK
          kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 1 OK
            echo: grpc.examples.echo.Echo/UnaryEcho [server] OK
          kafka-grpc: send echo-responses [producer]
            kafka-grpc: receive echo-responses [client] OK`
	duplicateTree = `
caller: the same order [internal]
  caller: grpc.examples.echo.Echo/UnaryEcho [client] OK
    kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [server] OK
      kafka-grpc: send echo-requests [producer]
        kafka-grpc: process echo-requests [consumer] OK
          kafka-grpc: send echo-responses [producer]
            kafka-grpc: receive echo-responses [client] OK`
	retriedTree = `
caller: a flaky service [internal]
  caller: grpc.examples.echo.Echo/UnaryEcho [client] OK
    kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [server] OK
      kafka-grpc: send echo-requests [producer]
        kafka-grpc: process echo-requests [consumer] OK
          kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 1 UNAVAILABLE (error)
            echo: grpc.examples.echo.Echo/UnaryEcho [server] UNAVAILABLE (error)
          kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 2 UNAVAILABLE (error)
            echo: grpc.examples.echo.Echo/UnaryEcho [server] UNAVAILABLE (error)
          kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 3 OK
            echo: grpc.examples.echo.Echo/UnaryEcho [server] OK
          kafka-grpc: send echo-responses [producer]
            kafka-grpc: receive echo-responses [client] OK`
	// A status that is the caller's doing makes no error of the spans of servers, as the conventions have it.
	notFoundTree = `
caller: an unknown order [internal]
  caller: grpc.examples.echo.Echo/UnaryEcho [client] NOT_FOUND (error)
    kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [server] NOT_FOUND
      kafka-grpc: send echo-requests [producer]
        kafka-grpc: process echo-requests [consumer] NOT_FOUND
          kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 1 NOT_FOUND (error)
            echo: grpc.examples.echo.Echo/UnaryEcho [server] NOT_FOUND
          kafka-grpc: send echo-responses [producer]
            kafka-grpc: receive echo-responses [client] NOT_FOUND (error)`
	internalTree = `
caller: a broken service [internal]
  caller: grpc.examples.echo.Echo/UnaryEcho [client] INTERNAL (error)
    kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [server] INTERNAL (error)
      kafka-grpc: send echo-requests [producer]
        kafka-grpc: process echo-requests [consumer] INTERNAL (error)
          kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 1 INTERNAL (error)
            echo: grpc.examples.echo.Echo/UnaryEcho [server] INTERNAL (error)
          kafka-grpc: send echo-responses [producer]
            kafka-grpc: receive echo-responses [client] INTERNAL (error)`
	streamTree = `
caller: a conversation [internal]
  caller: grpc.examples.echo.Echo/BidirectionalStreamingEcho [client] OK
    kafka-grpc: grpc.examples.echo.Echo/BidirectionalStreamingEcho [server] OK
      kafka-grpc: send echo-requests [producer]
        kafka-grpc: process echo-requests [consumer] OK
          kafka-grpc: grpc.examples.echo.Echo/BidirectionalStreamingEcho [client] attempt 1 OK
            echo: grpc.examples.echo.Echo/BidirectionalStreamingEcho [server] OK
          kafka-grpc: send echo-responses [producer]
            kafka-grpc: receive echo-responses [client] OK`
	untracedTree = `
kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [server] OK
  kafka-grpc: send echo-requests [producer]
    kafka-grpc: process echo-requests [consumer] OK
      kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 1 OK
        echo: grpc.examples.echo.Echo/UnaryEcho [server] OK
      kafka-grpc: send echo-responses [producer]
        kafka-grpc: receive echo-responses [client] OK`
	// Nobody waits at the server in front for the reply to a request that was written by hand.
	handTree = `
shop: send echo-requests [producer]
  kafka-grpc: process echo-requests [consumer] OK
    kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 1 OK
      echo: grpc.examples.echo.Echo/UnaryEcho [server] OK
    kafka-grpc: send echo-responses [producer]`
	untracedHandTree = `
kafka-grpc: process echo-requests [consumer] OK
  kafka-grpc: grpc.examples.echo.Echo/UnaryEcho [client] attempt 1 OK
    echo: grpc.examples.echo.Echo/UnaryEcho [server] OK
  kafka-grpc: send echo-responses [producer]`
	parkedTree = `
shop: send echo-requests [producer]
  kafka-grpc: process echo-requests [consumer] OK
    kafka-grpc: send echo-responses [producer]`
	restartedTree = handTree + `
` + lost + `
  echo: grpc.examples.echo.Echo/UnaryEcho [server] CANCELLED`
)

// One trace follows a request from the caller to the service and back, whoever wrote it, whatever becomes of it: in a real
// Jaeger, as a user sees it. docs/observability.md shows the tree of a retried call.
func TestTraces(t *testing.T) {
	w := newWorld(t)
	j := startJaeger(t)
	service := startTracedEcho(t, j)
	w.addr = service.addr
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": j.otlp, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_METRICS_EXPORTER": "none",
		"OTEL_BSP_SCHEDULE_DELAY": "100",
	} {
		t.Setenv(name, value)
	}
	w.createTopics(4)
	run := w.run()
	caller := dialTraced(t, j)
	group, id := group, func(key, method string) string {
		return wire.DefaultContract().ScopeID(key, echo, method, replyTopic, nil)
	}
	var traces []trace
	follow := func(name, method, key string, messages []string, code codes.Code, tree string, more ...string) trace {
		t.Helper()
		got, trace := caller.call(name, method, key, messages, more...)
		if got != code {
			t.Errorf("%s: status %s, not %s", name, got, code)
		}
		traces = append(traces, j.expect(trace, tree))
		return traces[len(traces)-1]
	}
	hi := []string{"\n\x02hi"}

	executed := follow("an order", "UnaryEcho", "order-1", hi, codes.OK, executedTree)
	process := j.find(executed, "kafka-grpc", "process "+requestTopic, "consumer")
	expectTags(t, process, map[string]string{
		"messaging.operation.name": "process", "messaging.operation.type": "process", "messaging.destination.name": requestTopic,
		"messaging.consumer.group.name": group, "rpc.response.status_code": "OK", "kafka_grpc.result": "executed",
	})
	for name, want := range map[string]map[string]string{
		"send " + requestTopic + " producer":    {"messaging.operation.name": "send", "messaging.operation.type": "send", "messaging.destination.name": requestTopic},
		"send " + replyTopic + " producer":      {"messaging.operation.name": "send", "messaging.operation.type": "send", "messaging.destination.name": replyTopic},
		"receive " + replyTopic + " client":     {"messaging.operation.name": "receive", "messaging.operation.type": "receive", "messaging.destination.name": replyTopic},
		"process " + requestTopic + " consumer": {},
	} {
		cut := strings.LastIndex(name, " ")
		s := j.find(executed, "kafka-grpc", name[:cut], name[cut+1:])
		want["messaging.message.conversation_id"], want["messaging.kafka.message.key"] = id("order-1", "UnaryEcho"), id("order-1", "UnaryEcho")
		want["messaging.system"], want["rpc.system.name"], want["rpc.method"] = "kafka", "grpc", echo+"/UnaryEcho"
		want["messaging.destination.partition.id"] = fmt.Sprint(wire.Partition([]byte(id("order-1", "UnaryEcho")), 4))
		expectTags(t, s, want)
	}
	host, port, err := net.SplitHostPort(service.addr)
	if err != nil {
		t.Fatal(err)
	}
	expectTags(t, j.find(executed, "kafka-grpc", echo+"/UnaryEcho", "client"), map[string]string{
		"rpc.system.name": "grpc", "rpc.method": echo + "/UnaryEcho", "server.address": host, "server.port": port,
		"kafka_grpc.attempt": "1", "kafka_grpc.breaker": "closed",
	})
	expectTags(t, j.find(executed, "kafka-grpc", echo+"/UnaryEcho", "server"), map[string]string{"rpc.system.name": "grpc", "rpc.method": echo + "/UnaryEcho"})
	// Baggage goes the whole way, too.
	expectTags(t, j.find(executed, "echo", echo+"/UnaryEcho", "server"), map[string]string{"tenant": "blue"})

	// The table leads to the trace.
	eventually(t, "keys get names the trace", func() bool {
		stdout, _, code := output(t, exec.Command(binary(t, "kafka-grpc"), "keys", "get", id("order-1", "UnaryEcho"), "--admin-addr", run.admin()))
		return code == 0 && slices.Contains(strings.Fields(stdout), executed.ID)
	})

	// A duplicate's trace leads to the one that executed the key.
	duplicate := follow("the same order", "UnaryEcho", "order-1", hi, codes.OK, duplicateTree)
	again := j.find(duplicate, "kafka-grpc", "process "+requestTopic, "consumer")
	expectTags(t, again, map[string]string{"kafka_grpc.result": "stored"})
	expectLink(t, again, process)

	retried := follow("a flaky service", "UnaryEcho", "flaky-1", hi, codes.OK, retriedTree)
	expectInPage(t, retried.tree())
	var backoffs []string
	for _, e := range j.find(retried, "kafka-grpc", "process "+requestTopic, "consumer").events() {
		seconds, err := strconv.ParseFloat(e["kafka_grpc.seconds"], 64)
		if err != nil || seconds <= 0 {
			t.Errorf("an event of a retried call: %v", e)
		}
		backoffs = append(backoffs, e["event"]+" "+e["kafka_grpc.attempt"]+" "+e["rpc.response.status_code"])
	}
	if want := []string{"backoff 1 UNAVAILABLE", "backoff 2 UNAVAILABLE"}; !slices.Equal(backoffs, want) {
		t.Errorf("the events of a retried call are %q, not %q", backoffs, want)
	}

	follow("an unknown order", "UnaryEcho", "missing-1", hi, codes.NotFound, notFoundTree, embedded.EchoCode, "NOT_FOUND")
	follow("a broken service", "UnaryEcho", "broken-1", hi, codes.Internal, internalTree, embedded.EchoCode, "INTERNAL")
	follow("a conversation", "BidirectionalStreamingEcho", "talk-1", []string{"\n\x01a", "\n\x01b", "\n\x01c"}, codes.OK, streamTree)

	// A caller without traces: the server in front begins one.
	if r := dial(t, plainAddress).call("plain-1", hi[0]); r.err != nil {
		t.Error(r.err)
	}
	traces = append(traces, j.expectCall(id("plain-1", "UnaryEcho"), untracedTree))

	// Requests that somebody else wrote, with and without a trace.
	shop := j.tracers("shop").Tracer("shop")
	byHand := func(id string) (trace string) {
		t.Helper()
		ctx, span := shop.Start(context.Background(), "send "+requestTopic, oteltrace.WithSpanKind(oteltrace.SpanKindProducer))
		defer span.End()
		carrier := propagation.MapCarrier{}
		propagator.Inject(ctx, carrier)
		w.produce(id, kgo.RecordHeader{Key: "traceparent", Value: []byte(carrier["traceparent"])})
		return span.SpanContext().TraceID().String()
	}
	traces = append(traces, j.expect(byHand("hand-1"), handTree))
	w.produce("hand-2")
	traces = append(traces, j.expectCall("hand-2", untracedHandTree))

	// While a service is down, the breaker holds its calls back and lets one of them probe it.
	const many = 30 // more than the failures in a row that open it
	for n := range many {
		w.produce(fmt.Sprintf("down-%d", n))
	}
	run.awaitText("a service fails: its calls wait")
	close(service.up)
	probes, held := 0, 0
	for n := range many {
		tr := j.await(tagged(fmt.Sprintf("down-%d", n)), func(tr trace) error {
			if len(j.findAll(tr, "kafka-grpc", "send "+replyTopic, "producer")) == 0 {
				return fmt.Errorf("no reply in\n%s", tr.tree())
			}
			return nil
		})
		traces = append(traces, tr)
		for i, s := range j.findAll(tr, "kafka-grpc", echo+"/UnaryEcho", "client") {
			tags := s.tags()
			if tags["kafka_grpc.attempt"] != fmt.Sprint(i+1) {
				t.Errorf("the attempts of a held call:\n%s", tr.tree())
			}
			if tags["kafka_grpc.breaker"] == "half-open" {
				probes++
			}
		}
		for _, e := range j.find(tr, "kafka-grpc", "process "+requestTopic, "consumer").events() {
			if e["event"] == "held by the breaker" && e["kafka_grpc.breaker"] == "open" {
				held++
			}
		}
	}
	if probes == 0 || held == 0 {
		t.Errorf("%d attempts probed the service, and %d calls were held", probes, held)
	}

	// A call that a crash ended is made again by the next process, in the same trace. One that waits for its result leads there.
	crossed := byHand("gate-1")
	<-service.begun
	run.kill()
	run = w.run()
	<-service.begun
	waited := byHand("gate-1")
	eventually(t, "a request is parked", func() bool {
		stdout, _, _ := output(t, exec.Command("curl", "-s", "http://"+run.admin()+"/metrics"))
		return strings.Contains(stdout, `kafka_grpc_requests_parked{group="`+group+`"} 1`)
	})
	close(service.gate)
	restarted, parked := j.expect(crossed, restartedTree), j.expect(waited, parkedTree)
	traces = append(traces, restarted, parked)
	process, again = j.find(restarted, "kafka-grpc", "process "+requestTopic, "consumer"), j.find(parked, "kafka-grpc", "process "+requestTopic, "consumer")
	expectTags(t, again, map[string]string{"kafka_grpc.result": "parked"})
	expectLink(t, again, process)

	run.signal(syscall.SIGTERM)
	if code := run.wait(); code != 0 {
		t.Errorf("an orderly stop ends with exit code %d", code)
	}
	if strings.Contains(run.output(), "exporting telemetry fails") {
		t.Errorf("traces could not be sent:\n%s", run.output())
	}
	w.expectRecords(traces)
}

// expectTags checks some of the attributes of a span.
func expectTags(t *testing.T, s span, want map[string]string) {
	t.Helper()
	got := s.tags()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %s is %q, not %q, of %q", s.Name, name, got[name], want[name], got)
		}
	}
}

// expectLink checks that the span of a duplicate leads to the one that executed its key.
func expectLink(t *testing.T, duplicate, execution span) {
	t.Helper()
	if links := duplicate.links(); len(links) != 1 || links[0].Trace != execution.Trace || links[0].Span != execution.ID {
		t.Errorf("the duplicate's links are %v, not span %s of trace %s", links, execution.ID, execution.Trace)
	}
}

// expectRecords holds the spans of the program against the records on Kafka: one that names a position is of the record there,
// and the record of one that sends names that span.
func (w *world) expectRecords(traces []trace) {
	w.t.Helper()
	type position struct{ topic, partition, offset string }
	records := map[position]wire.Record{}
	for _, topic := range []string{requestTopic, replyTopic} {
		for _, r := range w.all(topic) {
			records[position{topic, fmt.Sprint(r.Partition), fmt.Sprint(r.Offset)}] = r
		}
	}
	checked := 0
	for _, tr := range traces {
		for _, s := range tr.Spans {
			tags := s.tags()
			if tr.Processes[s.Process].Service != "kafka-grpc" || tags["messaging.system"] == "" {
				continue
			}
			at := position{tags["messaging.destination.name"], tags["messaging.destination.partition.id"], tags["messaging.kafka.offset"]}
			r, ok := records[at]
			if !ok {
				w.t.Errorf("%s of trace %s: there is no record at %v", s.Name, tr.ID, at)
				continue
			}
			if string(r.Key) != tags["messaging.kafka.message.key"] || header(r, "zilla:correlation-id") != tags["messaging.message.conversation_id"] {
				w.t.Errorf("%s of trace %s: the record at %v has key %q and headers\n%s", s.Name, tr.ID, at, r.Key, text(r.Headers))
			}
			if want := "00-" + tr.ID + "-" + s.ID + "-01"; tags["messaging.operation.type"] == "send" && header(r, "traceparent") != want {
				w.t.Errorf("%s: the record at %v has traceparent %q, not %q", s.Name, at, header(r, "traceparent"), want)
			}
			checked++
		}
	}
	if checked == 0 {
		w.t.Error("no span names a record")
	}
}

// expectInPage checks that the documentation shows a tree as it is.
func expectInPage(t *testing.T, tree string) {
	t.Helper()
	t.Logf("\n%s", tree)
	page, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```text\n"+tree+"```\n") {
		t.Errorf("docs/observability.md does not show the tree of a retried call as it is:\n%s", tree)
	}
}
