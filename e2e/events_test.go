package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

// shop is the service of the examples.
type shop struct {
	host, port string

	mu    sync.Mutex
	calls []string // key, tenant and message of each
}

func startShop(t *testing.T) *shop {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := new(shop)
	if s.host, s.port, err = net.SplitHostPort(listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(s.handle))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shop) handle(_ any, stream grpc.ServerStream) error {
	var order []byte
	if err := stream.RecvMsg(&order); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf("%s %s %q", md.Get("idempotency-key"), md.Get("tenant"), order))
	s.mu.Unlock()
	answers := []string{"\x0a\x03R-1\x10\x2a"} // Receipt{number: "R-1", total: 42}
	if method, _ := grpc.MethodFromServerStream(stream); method == "/shop.v1.Orders/Track" {
		answers = []string{"\x0a\x06packed", "\x0a\x04sent"} // Step{text: ...}
	}
	if bytes.Contains(order, []byte("nobody")) {
		return status.Error(codes.NotFound, "no such customer")
	}
	for _, a := range answers {
		m := []byte(a)
		if err := stream.SendMsg(&m); err != nil {
			return err
		}
	}
	return nil
}

func (s *shop) called() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.calls, "\n")
}

// runExample starts a configuration of deploy/examples.
func (w *world) runExample(s *shop, name string) *process {
	w.t.Helper()
	c := exec.Command(binary(w.t, "kafka-grpc"), "run", "-c", filepath.Join("..", "deploy", "examples", name), "--state-dir", w.state, "--create-topics=2")
	c.Env = append(os.Environ(), "ORDERS_HOST="+s.host, "ORDERS_PORT="+s.port,
		"KAFKA_GRPC_BROKERS="+strings.Join(w.kafka.Brokers(), ","), "KAFKA_GRPC_ADMIN_ADDR=127.0.0.1:0")
	p := start(w.t, c)
	p.await("ready")
	return p
}

// send writes what a producer writes that knows nothing of this program: a key, a value, and headers as name=value.
func (w *world) sendEvent(topic, key, value string, headers ...string) {
	w.t.Helper()
	r := &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, "=")
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.client().ProduceSync(ctx, r).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// shown is a record as text: key, value and headers.
func shown(r wire.Record) string {
	value := string(r.Value)
	if r.Value == nil {
		value = "null"
	}
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, h.Name+"="+string(h.Value))
	}
	return fmt.Sprintf("%s: %s %v", r.Key, value, headers)
}

func (w *world) wantRecords(topic string, want ...string) {
	w.t.Helper()
	var got []string
	for _, r := range w.records(topic, len(want)) {
		got = append(got, shown(r))
	}
	if d := cmp.Diff(want, got); d != "" {
		w.t.Errorf("topic %s (-want +got): %s", topic, d)
	}
}

func TestPlainEvents(t *testing.T) {
	realkafka.Need(t)
	w := &world{t: t, state: t.TempDir(), kafka: realkafka.Start(t, realkafka.Options{})}
	s := startShop(t)
	const results, letters = "order-results", "shop-orders_remote_server-dead-letters"
	w.create(1, nil, "orders", results)
	first := w.runExample(s, "orders.yaml")
	const value = `{"customer": "ann", "items": [{"name": "cup", "price": 21}]}`
	const order = `"\n\x03ann\x12\a\n\x03cup\x10\x15"`
	placed := []string{"type=placed", "event-id=e-1", "tenant=blue"}
	reply := `k1: {"number":"R-1","total":"42"} [zilla:correlation-id=e-1 zilla:status=0]`

	w.sendEvent("orders", "k1", value, placed...)
	w.wantRecords(results, reply)
	w.sendEvent("orders", "k1", value, placed...)
	w.wantRecords(results, reply, reply)
	first.signal(syscall.SIGTERM)
	if code := first.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	w.runExample(s, "orders.yaml")
	w.sendEvent("orders", "k1", value, placed...)
	w.wantRecords(results, reply, reply, reply)

	w.sendEvent("orders", "k2", "\x0a\x03bob", "type=placed-protobuf")
	w.sendEvent("orders", "k3", `{"customer": "eve"}`, "type=tracked")
	tracked := []string{
		`k3: {"text":"packed"} [zilla:correlation-id=orders/0/4 grpc:message=0]`, `k3: {"text":"sent"} [zilla:correlation-id=orders/0/4 grpc:message=1]`,
		`k3: null [zilla:correlation-id=orders/0/4 zilla:status=0 grpc:message=2]`,
	}
	w.wantRecords(results, append([]string{reply, reply, reply}, tracked...)...)
	w.sendEvent("orders", "k4", "", "type=placed") // an empty value is none
	w.sendEvent("orders", "k5", `{"customer": "nobody"}`, "type=placed", "event-id=e-2", "tenant=blue")
	failed := `k5: null [zilla:correlation-id=e-2 zilla:status=5 zilla:message=no such customer]`
	w.wantRecords(results, append(append([]string{reply, reply, reply}, tracked...), failed)...)
	kept := w.records(letters, 2)
	if text := shown(kept[0]); !strings.Contains(text, "k4:  ") || !strings.Contains(text, "there is no JSON in it") {
		t.Error(text)
	}
	if text := shown(kept[1]); !strings.Contains(text, `{"customer": "nobody"}`) || !strings.Contains(text, "kafkagrpc.error.reason=the call failed: NotFound no such customer") ||
		!strings.Contains(text, "kafkagrpc.error.key=e-2") {
		t.Error(text)
	}
	bad := badEvents()
	for _, b := range bad {
		w.sendEvent("orders", "bad", b.value, b.headers...)
	}
	got := w.records(letters, 2+len(bad))[2:]
	for i, b := range bad {
		if text := shown(got[i]); !strings.HasPrefix(text, "bad: "+b.value+" ") || !strings.Contains(text, b.reason) {
			t.Errorf("%q: %q, want %s", b.value, text, b.reason)
		}
	}
	want := strings.Join([]string{
		`[e-1] [blue] ` + order, `[orders/0/3] [] "\n\x03bob"`, `[orders/0/4] [] "\n\x03eve"`, `[e-2] [blue] "\n\x06nobody"`,
	}, "\n")
	if d := cmp.Diff(want, s.called()); d != "" {
		t.Errorf("calls: %s", d)
	}
}

// badEvent is an event that calls nothing, and why.
type badEvent struct {
	value   string
	headers []string
	reason  string
}

func badEvents() (all []badEvent) {
	for value, place := range map[string]string{
		"hello": "$: syntax error: invalid value hello", "null": "$: unexpected token null", "[]": "$: unexpected token [", "7": "$: unexpected token 7", `"customer"`: "$: unexpected token", "true": "$: unexpected token true",
		" ": "there is no JSON in it", "{": "unexpected EOF", `{"customer"}`: "syntax error", `{"customer":"a",}`: "syntax error", `{"customer":"a"} x`: "$: syntax error", `{'customer':'a'}`: "syntax error",
		`{"customer":1}`: "$.customer: invalid value for string", `{"customer":{}}`: "$.customer: ", `{"customer":["a"]}`: "$.customer: ", `{"customer":true}`: "$.customer: ",
		`{"customer":"a","customer":"b"}`: "$.customer: duplicate field", `{"costumer":"a"}`: `$.costumer: unknown field "costumer"`, `{"Customer":"a"}`: `$.Customer: unknown field`,
		"{\"customer\":\"\xff\"}": "$.customer: syntax error: invalid UTF-8", `{"customer":"\ud800"}`: `$.customer: \ud800 is half a character`, "\xef\xbb\xbf{}": "it begins with a byte order mark",
		`{"items":{}}`: "$.items: ", `{"items":"cup"}`: "$.items: ", `{"items":[1]}`: "$.items[0]: ", `{"items":[{},{"price":"much"}]}`: "$.items[1].price: invalid value for int32",
		`{"items":[{"price":1.5}]}`: "$.items[0].price: ", `{"items":[{"price":2147483648}]}`: "$.items[0].price: ", `{"items":[{"name":"a","size":{"w":1}}]}`: "$.items[0].size: unknown field",
		`{"items":[null]}`: "$.items[0]: ",
	} {
		all = append(all, badEvent{value, []string{"type=placed", "event-id=x", "tenant=blue"}, place})
	}
	return append(all,
		badEvent{"{}", []string{"type=placed", "tenant=blue"}, "idempotency-key: the event has no ${message.headers.event-id}"},
		badEvent{"{}", []string{"type=placed", "event-id=", "tenant=blue"}, "idempotency-key: the event has no ${message.headers.event-id}"},
		badEvent{"{}", []string{"type=placed", "event-id=a\x00b", "tenant=blue"}, "idempotency-key: it has control characters"},
		badEvent{"{}", []string{"type=placed", "event-id=y"}, "metadata tenant: the event has no ${message.headers.tenant}"},
		badEvent{"{}", []string{"type=placed", "event-id=y", "tenant=a\nb"}, "metadata tenant: the value has control characters"},
		badEvent{"{}", []string{"type=placed-protobuf"}, "shop.v1.Order: $: cannot parse"},
		badEvent{"\x0a\x01", []string{"type=placed-protobuf"}, "shop.v1.Order: $.customer: cannot parse"},
		badEvent{"\x12\x00\x12\x03\x0a\x01\xff", []string{"type=placed-protobuf"}, "$.items[1].name: field shop.v1.Item.name contains invalid UTF-8"},
		badEvent{"\x08\x01", []string{"type=placed-protobuf"}, "$.customer: field 1 has a value that does not fit string"},
		badEvent{"\x00\x00\x00\x00\x05\x00\x0a\x01a", []string{"type=placed-protobuf"}, "as the framing of a schema registry does"},
		badEvent{"\x22\x00", []string{"type=placed-protobuf"}, "$: unknown field 4"},
		badEvent{"\x12\x02\x18\x01", []string{"type=placed-protobuf"}, "$.items[0]: unknown field 3"},
		badEvent{"{}", []string{"zilla:service=shop.v1.Orders", "type=placed"}, "no zilla:correlation-id header"},
	)
}

func TestCloudEvents(t *testing.T) {
	realkafka.Need(t)
	w := &world{t: t, state: t.TempDir(), kafka: realkafka.Start(t, realkafka.Options{})}
	s := startShop(t)
	w.runExample(s, "cloudevents.yaml")
	event := func(id, typ string) []string {
		return []string{"ce_specversion=1.0", "ce_id=" + id, "ce_source=/shop/web", "ce_type=" + typ, "content-type=application/json",
			"traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	}
	w.sendEvent("cloud-orders", "k", `{"customer": "ann", "colour": "red"}`, event("1", "shop.order.placed")...)
	w.sendEvent("cloud-orders", "k", `{"customer": "ann", "colour": "red"}`, event("1", "shop.order.placed")...) // told twice
	w.sendEvent("cloud-orders", "k", `{"customer": "ann"}`, event("2", "shop.order.cancelled")...)               // not ours
	reply := `k: {"number":"R-1","total":"42"} [zilla:correlation-id=/shop/web/1 zilla:status=0]`
	w.wantRecords("cloud-order-results", reply, reply)
	if got, want := s.called(), `[/shop/web/1] [] "\n\x03ann"`; got != want {
		t.Errorf("calls %s, want %s", got, want)
	}
}
