package processor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// shop is a configuration with routes of plain events. The service echoes orders.
const shop = `
name: test
catalogs:
  protos:
    type: inline
    options:
      subjects:
        shop:
          schema: |
            syntax = "proto3";
            package shop.v1;
            service Orders {
              rpc Place(Order) returns (Order);
              rpc Watch(Order) returns (stream Order);
            }
            message Order {
              string id = 1;
              int64 amount = 2;
              repeated Item items = 3;
              map<string, Item> gifts = 4;
              State state = 5;
              Item main = 6;
              bytes raw = 7;
            }
            message Item { string name = 1; int32 price = 2; }
            enum State { NEW = 0; PAID = 1; }
bindings:
  remote:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    exit: grpc
    routes:%s
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka}
  kafka: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp0}
  tcp0: {type: tcp, kind: client}
  grpc: {type: grpc, kind: client, exit: http}
  http: {type: http, kind: client, exit: tcp1}
  tcp1: {type: tcp, kind: client, options: {host: shop, port: 8080}}
`

// ordersRoute takes the events of the request topic, and replies; with is more of its with.
func ordersRoute(with ...string) string {
	return eventRoute("{topic: "+requests+", reply-to: "+replies+"}", append([]string{"method: shop.v1.Orders/Place"}, with...)...)
}

func eventRoute(when string, with ...string) string {
	return "\n      - when: [" + when + "]\n        with: {" + strings.Join(with, ", ") + "}"
}

// newShop is a testbench whose binding has routes of plain events.
func newShop(t testing.TB, partitions int32, routes string, change ...func(*topology.Remote)) *testbench {
	t.Helper()
	file := filepath.Join(t.TempDir(), "zilla.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, shop, routes), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := topology.Load(file, topology.Options{LookupEnv: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, partitions, append(change, func(r *topology.Remote) { r.Routes = append(loaded.Remotes[0].Routes, r.Routes...) })...)
	for i := range b.remote.Routes {
		target := &b.remote.Routes[i].Target
		target.Authority, target.Address = b.service.addr, b.service.addr
	}
	for name, method := range loaded.Methods {
		b.methods[name] = method
	}
	b.codecs = func(e topology.Event) (payload.Decoder, payload.Encoder, error) {
		if e.Request.Name == topology.EncodingProtobuf {
			return payload.NewProtobuf(e.Input, payload.UnknownFields(e.Request.IgnoreUnknown)), payload.NewProtobuf(e.Output, false), nil
		}
		return payload.NewJSON(e.Input, payload.UnknownFields(e.Request.IgnoreUnknown)), payload.NewJSON(e.Output, false), nil
	}
	return b
}

// requestsOnly takes the route of the contract's requests out.
func requestsOnly(r *topology.Remote) { r.Routes = nil }

func event(key, value string, headers ...wire.Header) wire.Record {
	return wire.Record{Key: []byte(key), Value: []byte(value), Headers: headers}
}

// order is a message of the shop, as protobuf.
func (b *testbench) order(json string) string {
	b.t.Helper()
	var descriptor protoreflect.MessageDescriptor
	for _, r := range b.remote.Routes {
		if r.Event != nil {
			descriptor = r.Event.Input
		}
	}
	m := dynamicpb.NewMessage(descriptor)
	if err := protojson.Unmarshal([]byte(json), m); err != nil {
		b.t.Fatal(err)
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(encoded)
}

// written is what a test compares of a record.
type written struct {
	Key, Value string
	Headers    []string
}

func writtenOf(r wire.Record) written {
	w := written{Key: string(r.Key), Value: string(r.Value)}
	if r.Value == nil {
		w.Value = "null"
	}
	for _, h := range r.Headers {
		w.Headers = append(w.Headers, h.Name+"="+string(h.Value))
	}
	return w
}

func (b *testbench) wantWritten(got wire.Record, want written) {
	b.t.Helper()
	if d := cmp.Diff(want, writtenOf(got)); d != "" {
		b.t.Errorf("record of %s (-want +got): %s", got.Topic, d)
	}
}

// letters reads the next n records, which must be dead letters.
func (b *testbench) letters(n int) []deadletter.Letter {
	b.t.Helper()
	var all []deadletter.Letter
	for _, r := range b.read(n) {
		l, ok := deadletter.Parse(r)
		if r.Topic != b.remote.Processing.DeadLetter || !ok {
			b.t.Fatalf("no dead letter: %v", describe([]wire.Record{r}))
		}
		all = append(all, l)
	}
	return all
}

func TestEventCallsItsMethodOnce(t *testing.T) {
	t.Parallel()
	b := newShop(t, 3, ordersRoute("idempotency-key: '${message.headers.event-id}'", "metadata: {tenant: '${message.headers.tenant}', x: '<${message.key}|${message.value.main.name}>'}"))
	i := b.started()
	const value = `{"id": "7", "amount": "12", "state": "PAID", "main": {"name": "cup"}}`
	headers := []wire.Header{header("event-id", "e-1"), header("tenant", "red"), header("tenant", "blue"), header("other", "x")}
	reply := written{"order-7", `{"id":"7","amount":"12","state":"PAID","main":{"name":"cup"}}`, []string{"zilla:correlation-id=e-1", "zilla:status=0"}}
	b.produce(event("order-7", value, headers...))
	b.wantWritten(b.read(1)[0], reply)
	b.produceTo(requests, 2, event("order-7", value, headers...)) // once more, elsewhere
	b.wantWritten(b.read(1)[0], reply)
	b.committed()
	calls := b.service.received()
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	if c := calls[0]; c.method != "/shop.v1.Orders/Place" || c.message != b.order(value) || strings.Join(c.metadata.Get("tenant"), ",") != "blue" ||
		c.metadata.Get("x")[0] != "<order-7|cup>" || c.metadata.Get("idempotency-key")[0] != "e-1" || c.deadline <= 0 {
		t.Errorf("the call is %+v", c)
	}
	row, err := i.Row("e-1")
	if err != nil || row == nil || row.CorrelationId != "e-1" || row.Service != "shop.v1.Orders" || row.Method != "Place" {
		t.Errorf("row %v, %v", row, err)
	}
	i.stop()
	b.produce(event("order-7", value, headers...)) // and after a restart
	b.ready(b.start(i.dir))
	b.wantWritten(b.read(1)[0], reply)
	if n := len(b.service.received()); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// Without an expression each record is an event by itself, and is executed once, whatever is read again.
func TestKeyOfEventIsItsPlace(t *testing.T) {
	t.Parallel()
	b := newShop(t, 2, ordersRoute(), requestsOnly)
	b.started()
	for i := range 4 {
		b.produceTo(requests, 1, event("a", `{"id":"7"}`))
		b.wantWritten(b.read(1)[0], written{"a", `{"id":"7"}`, []string{fmt.Sprintf("zilla:correlation-id=%s/1/%d", requests, i), "zilla:status=0"}})
	}
	b.committed()
	if n := len(b.service.received()); n != 4 {
		t.Errorf("%d calls", n)
	}
}

func TestEventThatDoesNotFitIsKept(t *testing.T) {
	t.Parallel()
	b := newShop(t, 1, ordersRoute("idempotency-key: '${message.headers.event-id}'"))
	b.started()
	id := header("event-id", "1")
	tests := []struct {
		name   string
		record wire.Record
		reason string
	}{
		{"no JSON", event("a", "hi", id), `the value does not fit shop.v1.Order: $: syntax error`},
		{"unknown field", event("a", `{"id":"1","items":[{},{"name":"x","prize":2}]}`, id), `the value does not fit shop.v1.Order: $.items[1].prize: unknown field "prize"`},
		{"wrong type", event("a", `{"id": 1}`, id), `$.id: invalid value for string field id: 1`},
		{"no key", event("a", `{}`), "idempotency-key: the event has no ${message.headers.event-id}"},
		{"empty key", event("a", `{}`, header("event-id", "")), "idempotency-key: the event has no ${message.headers.event-id}"},
	}
	for _, test := range tests {
		b.produce(test.record)
		letter := b.letters(1)[0]
		if !strings.Contains(letter.Cause.Reason, test.reason) || string(letter.Value) != string(test.record.Value) || letter.Cause.Topic != requests {
			t.Errorf("%s: %+v, want %s", test.name, letter.Cause, test.reason)
		}
	}
	b.committed()
	if n := len(b.service.received()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// Nobody waits for the reply to an event: one that fails is a dead letter, too. Its replay is executed, as its sender expects.
func TestEventThatFailsIsKept(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"idempotency-key: '${message.headers.event-id}'", "tombstones: skip"} {
		b := newShop(t, 2, ordersRoute(key), requestsOnly)
		i := b.started()
		b.service.answers(func(context.Context, received) ([]byte, error) {
			return nil, status.Error(codes.InvalidArgument, "no such cup")
		})
		sent := b.produce(event("a", `{"id":"7"}`, header("event-id", "e-1")))[0]
		id := "e-1"
		if strings.HasPrefix(key, "tomb") {
			id = fmt.Sprintf("%s/%d/%d", requests, sent.Partition, sent.Offset)
		}
		var letter deadletter.Letter
		for _, r := range b.read(2) {
			if r.Topic == replies {
				b.wantWritten(r, written{"a", "null", []string{"zilla:correlation-id=" + id, "zilla:status=3", "zilla:message=no such cup"}})
				continue
			}
			letter, _ = deadletter.Parse(r)
		}
		if c := letter.Cause; c.Reason != "the call failed: InvalidArgument no such cup" || c.Code != codes.InvalidArgument || c.Attempts != 1 || c.Key != id ||
			string(letter.Value) != `{"id":"7"}` || c.Offset != sent.Offset {
			t.Errorf("letter %+v", letter)
		}
		b.committed()
		i.stop()
		b.service.answers(nil)
		b.ready(b.start(i.dir))
		again := letter.Again()
		if len(again) != 1 {
			t.Fatalf("%d records of a replay", len(again))
		}
		for range 2 { // the second time it has its result
			b.produce(again[0])
			b.wantWritten(b.read(1)[0], written{"a", `{"id":"7"}`, []string{"zilla:correlation-id=" + id, "zilla:status=0"}})
		}
		if n := len(b.service.received()); n != 2 {
			t.Errorf("%d calls", n)
		}
	}
}
