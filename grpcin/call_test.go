package grpcin_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

const scope = "-132e6a3c3cd99bf490609dd2718acc8a" // of the unary method, from the contract's vectors

// The records of a call are the contract: byte for byte, in this order.
func TestRecordsOfACall(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"message": "\x0a\x01x", "empty message": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.on = echo(t, f.calls)
			ctx := withPatience(t)
			r := f.call(ctx, unary, value,
				"idempotency-key", "k1", "x", "2", "x", "1", "b-bin", "\x00\xff", "authorization", "secret", "cookie", "secret",
				"traceparent", "00-1-2-01", "tracestate", "a=b", "grpc-tags-bin", "x", "service-name", "x")
			if r.Status != codes.OK || r.Message != value {
				t.Fatalf("result = %+v", r)
			}
			records := f.kafka.written()
			if len(records) != 2 {
				t.Fatalf("%d records, want 2", len(records))
			}
			attempt := request(t, records[0]).Call
			if len(attempt) < 16 {
				t.Errorf("grpc:call = %q, want a long random id", attempt)
			}
			deadline, _ := ctx.Deadline()
			deadlineHeader := find(records[0].Headers, "grpc:deadline")
			// gRPC sends the time that is left, so the server's idea of the deadline is a little later.
			if ms, err := strconv.ParseInt(deadlineHeader, 10, 64); err != nil || ms < deadline.UnixMilli()-1 || ms > deadline.Add(patience).UnixMilli() {
				t.Errorf("grpc:deadline = %q, want about %d (%v)", deadlineHeader, deadline.UnixMilli(), err)
			}
			want := []string{
				"zilla:service", service, "zilla:method", "UnaryEcho", "zilla:reply-to", replies, "zilla:correlation-id", "k1" + scope,
				"meta:b-bin", "AP8", "meta:idempotency-key", "k1", "meta:traceparent", "00-1-2-01", "meta:tracestate", "a=b",
				"meta:x", "2", "meta:x", "1",
				"grpc:call", attempt, "grpc:deadline", deadlineHeader, "traceparent", "00-1-2-01", "tracestate", "a=b", "grpc:message",
			}
			for i, record := range records {
				want := append(slices.Clone(want), strconv.Itoa(i))
				var got []string
				for _, h := range record.Headers {
					got = append(got, h.Name, string(h.Value))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("headers of record %d (-want +got):\n%s", i, diff)
				}
				if record.Topic != requests || string(record.Key) != "k1"+scope {
					t.Errorf("record %d: topic %q, key %q", i, record.Topic, record.Key)
				}
			}
			if records[0].Value == nil || string(records[0].Value) != value {
				t.Errorf("message = %#v, want %q and not null", records[0].Value, value)
			}
			if records[1].Value != nil {
				t.Errorf("end = %#v, want null", records[1].Value)
			}
		})
	}
}

func find(headers []wire.Header, name string) string {
	for _, h := range headers {
		if h.Name == name {
			return string(h.Value)
		}
	}
	return ""
}

func TestCallWithoutKeyAndDeadline(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.on = echo(t, f.calls)
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}` + scope + `$`)
	seen := map[string]bool{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 3 {
		if r := f.call(ctx, unary, "x"); r.Status != codes.OK {
			t.Fatalf("result = %+v", r)
		}
	}
	for _, record := range f.kafka.written() {
		if !uuid.Match(record.Key) {
			t.Errorf("key = %q, want a UUID and the scope", record.Key)
		}
		seen[string(record.Key)] = true
		if got := find(record.Headers, "grpc:deadline"); got != "" {
			t.Errorf("grpc:deadline = %q of a call without one", got)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d keys for 3 calls", len(seen))
	}
}

func TestAllowedMetadata(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Listener.Routes[0].Contract.AllowMetadata = []string{"authorization"}
	})
	f.kafka.on = echo(t, f.calls)
	f.call(withPatience(t), unary, "x", "authorization", "a", "cookie", "c")
	headers := f.kafka.written()[0].Headers
	if find(headers, "meta:authorization") != "a" || find(headers, "meta:cookie") != "" {
		t.Errorf("headers = %q", headers)
	}
}

func TestCompressedCall(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.on = echo(t, f.calls)
	in := []byte(strings.Repeat("x", 10000))
	var out []byte
	if err := f.conn.Invoke(withPatience(t), "/"+unary, &in, &out, grpc.UseCompressor(gzip.Name)); err != nil || string(out) != string(in) {
		t.Fatalf("%d bytes came back, %v", len(out), err)
	}
	if got := f.kafka.written()[0].Value; string(got) != string(in) {
		t.Errorf("%d bytes in the record, want %d, not compressed", len(got), len(in))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method string
		metadata     []string
		want         codes.Code
		text         string
	}{
		{"no route", "other.Service/Method", nil, codes.Unimplemented, "method other.Service/Method: no route takes it"},
		{"empty key", unary, []string{"idempotency-key", ""}, codes.InvalidArgument, "metadata idempotency-key: the idempotency key is empty"},
		{"long key", unary, []string{"idempotency-key", strings.Repeat("k", 224)}, codes.InvalidArgument, "224 bytes; at most 223"},
	}
	f := start(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := f.call(withPatience(t), tt.method, "x", tt.metadata...)
			if r.Status != tt.want || !strings.Contains(r.Text, tt.text) {
				t.Errorf("result = %+v, want %v with %q", r, tt.want, tt.text)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(f.kafka.written()); n != 0 {
			t.Errorf("%d records of refused calls", n)
		}
	})
}

func TestUnaryCallOfAMethodThatNoCatalogKnows(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.on = echo(t, f.calls)
	if r := f.call(withPatience(t), service+"/New", "x"); r.Status != codes.OK || r.Message != "x" {
		t.Errorf("result = %+v", r)
	}
}

func TestFirstRouteThatMatches(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, _ *front) {
		first := o.Listener.Routes[0]
		first.Methods, first.Topic = []topology.MethodPattern{service + "/Special"}, "special-requests"
		o.Listener.Routes = append([]topology.NorthRoute{first}, o.Listener.Routes...)
	})
	f.kafka.on = echo(t, f.calls)
	for method, topic := range map[string]string{unary: requests, service + "/Special": "special-requests"} {
		before := len(f.kafka.written())
		if r := f.call(withPatience(t), method, "x"); r.Status != codes.OK {
			t.Fatalf("%s: %+v", method, r)
		}
		if got := f.kafka.written()[before].Topic; got != topic {
			t.Errorf("%s went to %q, want %q", method, got, topic)
		}
	}
}

func TestRouteByMetadata(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, _ *front) {
		first := o.Listener.Routes[0]
		first.Metadata, first.Topic = wire.Metadata{{Name: "tenant", Value: "gold"}, {Name: "key-bin", Value: "\x00\x01"}}, "gold-requests"
		o.Listener.Routes = append([]topology.NorthRoute{first}, o.Listener.Routes...)
	})
	f.kafka.on = echo(t, f.calls)
	for _, tt := range []struct {
		topic    string
		metadata []string
	}{
		{"gold-requests", []string{"tenant", "gold", "key-bin", "\x00\x01"}},
		{"gold-requests", []string{"tenant", "x", "tenant", "gold", "key-bin", "\x00\x01"}},
		{requests, []string{"tenant", "gold"}},
		{requests, []string{"tenant", "gold", "key-bin", "AAE"}},
		{requests, nil},
	} {
		before := len(f.kafka.written())
		if r := f.call(withPatience(t), unary, "x", tt.metadata...); r.Status != codes.OK {
			t.Fatalf("%v: %+v", tt.metadata, r)
		}
		if got := f.kafka.written()[before].Topic; got != tt.topic {
			t.Errorf("a call with %q went to %q, want %q", tt.metadata, got, tt.topic)
		}
	}
}

func TestNumberOfMessages(t *testing.T) {
	t.Parallel()
	f := start(t)
	for n, want := range map[int]string{0: "none came", 2: "a second one came"} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			stream, err := f.conn.NewStream(withPatience(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+unary)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if err := stream.SendMsg(&[]byte{1}); err != nil {
					t.Fatal(err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			var reply []byte
			if err := stream.RecvMsg(&reply); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v, want INTERNAL with %q", err, want)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(f.kafka.written()); n != 0 {
			t.Errorf("%d records of refused calls", n)
		}
	})
}

func TestSendErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		end  bool // only the null record fails
		want codes.Code
	}{
		{"rejected", fmt.Errorf("producing: %w", errRejected), false, codes.Internal},
		{"unreachable", errors.New("no brokers"), false, codes.Unavailable},
		{"the end only", errors.New("no brokers"), true, codes.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.fail = func(r wire.Record) error {
				if tt.end && r.Value != nil {
					return nil
				}
				return tt.err
			}
			r := f.call(withPatience(t), unary, "x")
			if want := `the call could not be written to topic "echo-requests": ` + tt.err.Error(); r.Status != tt.want || r.Text != want {
				t.Errorf("result = %+v, want %v with %q", r, tt.want, want)
			}
		})
	}
}

func TestOneWay(t *testing.T) {
	t.Parallel()
	oneWay := func(o *grpcin.Options, _ *front) { o.Listener.Routes[0].ReplyTo = "" }
	t.Run("acknowledged", func(t *testing.T) {
		t.Parallel()
		f := start(t, oneWay)
		r := f.call(withPatience(t), unary, "x", "idempotency-key", "k1", "a", "b")
		if r.Status != codes.OK || r.Message != "" {
			t.Errorf("result = %+v", r)
		}
		want := []wire.Record{{
			Topic: requests, Key: []byte("k1-d41d8cd98f00b204e9800998ecf8427e"), Value: []byte("x"),
			Headers: []wire.Header{{Name: "meta:a", Value: []byte("b")}, {Name: "meta:idempotency-key", Value: []byte("k1")}},
		}}
		if diff := cmp.Diff(want, f.kafka.written()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		f := start(t, oneWay)
		c := f.stream(withPatience(t), t, clientStream, "idempotency-key", "k1")
		c.send("a", "", "b")
		c.half()
		c.wants(codes.OK, "")
		var got []string
		for _, r := range f.kafka.written() {
			got = append(got, fmt.Sprintf("%s %v %q", r.Key, r.Value == nil, r.Value))
		}
		const key = "k1-d41d8cd98f00b204e9800998ecf8427e"
		if diff := cmp.Diff([]string{key + ` false "a"`, key + ` false ""`, key + ` false "b"`}, got); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
	t.Run("stream without a message", func(t *testing.T) {
		t.Parallel()
		f := start(t, oneWay)
		c := f.stream(withPatience(t), t, clientStream)
		c.half()
		c.wants(codes.OK, "")
		if n := len(f.kafka.written()); n != 0 {
			t.Errorf("%d records, want none", n)
		}
	})
	t.Run("stream that is canceled", func(t *testing.T) {
		t.Parallel()
		f := start(t, oneWay)
		f.kafka.sent = make(chan wire.Record, 10)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := f.stream(ctx, t, clientStream)
		c.send("a")
		<-f.kafka.sent
		cancel()
		c.wants(codes.Canceled)
		eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
		if n := len(f.kafka.written()); n != 1 {
			t.Errorf("%d records, want the message alone", n)
		}
	})
	t.Run("stream of which a record fails", func(t *testing.T) {
		t.Parallel()
		f := start(t, oneWay)
		f.kafka.fail = func(r wire.Record) error {
			if string(r.Value) == "b" {
				return errRejected
			}
			return nil
		}
		c := f.stream(withPatience(t), t, clientStream)
		c.send("a", "b")
		c.half()
		c.wants(codes.Internal)
	})
	t.Run("not acknowledged", func(t *testing.T) {
		t.Parallel()
		f := start(t, oneWay)
		f.kafka.fail = func(wire.Record) error { return errors.New("no brokers") }
		if r := f.call(withPatience(t), unary, "x"); r.Status != codes.Unavailable {
			t.Errorf("result = %+v, want UNAVAILABLE", r)
		}
	})
}

func TestKeyAndOverrides(t *testing.T) {
	t.Parallel()
	overrides := func(o *grpcin.Options, _ *front) {
		o.Listener.Routes[0].Key = "orders"
		o.Listener.Routes[0].Overrides = []wire.Header{{Name: "tenant", Value: []byte("te")}, {Name: "a", Value: []byte("st")}}
	}
	// The contract's vector for an override value "test": the values are joined without a separator.
	const service, id = "example.EchoService", "k1-479f2c3fb58bc3f04bbe15440a657670"
	f := start(t, overrides, func(o *grpcin.Options, f *front) {
		o.Listener.Routes[0].Methods = []topology.MethodPattern{service + "/*"}
		o.Listener.Routes[0].ReplyTo = "responses"
		limit(0)(o, f)
	})
	f.kafka.on = func(r wire.Record) {
		if r.Value == nil {
			reply := wire.Reply{CorrelationID: request(t, r).CorrelationID}
			for _, record := range []wire.Record{message(reply, "y"), end(reply)} {
				record.Topic = "responses"
				f.kafka.reply(f.calls, record)
			}
		}
	}
	c := f.stream(withPatience(t), t, service+"/EchoUnary", "idempotency-key", "k1")
	c.send("x")
	c.half()
	c.wants(codes.OK, "y")
	for i, r := range f.kafka.written() {
		if string(r.Key) != "orders" || find(r.Headers, "zilla:correlation-id") != id {
			t.Errorf("record %d has key %q and correlation id %q, want orders and %s", i, r.Key, find(r.Headers, "zilla:correlation-id"), id)
		}
		var names []string
		for _, h := range r.Headers[:3] {
			names = append(names, h.Name)
		}
		if diff := cmp.Diff([]string{"tenant", "a", "zilla:service"}, names); diff != "" {
			t.Errorf("first headers of record %d (-want +got):\n%s", i, diff)
		}
	}

	oneWay := start(t, overrides, func(o *grpcin.Options, _ *front) { o.Listener.Routes[0].ReplyTo = "" })
	if r := oneWay.call(withPatience(t), unary, "x"); r.Status != codes.OK {
		t.Errorf("one-way: %+v", r)
	}
	want := []wire.Record{{
		Topic: requests, Key: []byte("orders"), Value: []byte("x"),
		Headers: []wire.Header{{Name: "tenant", Value: []byte("te")}, {Name: "a", Value: []byte("st")}},
	}}
	if diff := cmp.Diff(want, oneWay.kafka.written()); diff != "" {
		t.Errorf("one-way records (-want +got):\n%s", diff)
	}
}
