package grpcin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/wire"
)

// caller is the client's end of a stream.
type caller struct {
	t testing.TB
	grpc.ClientStream
}

func (f *front) stream(ctx context.Context, t testing.TB, method string, md ...string) caller {
	t.Helper()
	stream, err := f.conn.NewStream(metadata.AppendToOutgoingContext(ctx, md...),
		&grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+method)
	if err != nil {
		t.Fatal(err)
	}
	return caller{t, stream}
}

func (c caller) send(values ...string) {
	c.t.Helper()
	for _, v := range values {
		m := []byte(v)
		if err := c.SendMsg(&m); err != nil {
			c.t.Fatalf("sending %q: %v", v, err)
		}
	}
}

func (c caller) half() {
	c.t.Helper()
	if err := c.CloseSend(); err != nil {
		c.t.Fatal(err)
	}
}

func (c caller) next() string {
	c.t.Helper()
	var m []byte
	if err := c.RecvMsg(&m); err != nil {
		c.t.Fatalf("receiving: %v", err)
	}
	return string(m)
}

// rest takes all messages up to the status.
func (c caller) rest() (messages []string, err error) {
	for {
		var m []byte
		if err := c.RecvMsg(&m); errors.Is(err, io.EOF) {
			return messages, nil
		} else if err != nil {
			return messages, err
		}
		messages = append(messages, string(m))
	}
}

// wants fails unless the rest is these messages and this status.
func (c caller) wants(code codes.Code, messages ...string) {
	c.t.Helper()
	got, err := c.rest()
	if status.Code(err) != code {
		c.t.Errorf("status %v, want %v", err, code)
	}
	if diff := cmp.Diff(messages, got); diff != "" {
		c.t.Errorf("messages (-want +got):\n%s", diff)
	}
}

// pingpong answers each message at once with itself, and the end with OK.
func pingpong(t testing.TB, f *front) func(wire.Record) {
	return func(r wire.Record) {
		request := request(t, r)
		reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
		if r.Value == nil {
			f.kafka.reply(f.calls, end(reply))
			return
		}
		f.kafka.reply(f.calls, message(reply, string(r.Value)))
	}
}

// first waits for the record that opens a call, and gives what its replies need.
func (f *front) first(ctx context.Context, t testing.TB) wire.Reply {
	t.Helper()
	select {
	case r := <-f.kafka.sent:
		request := request(t, r)
		return wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
	case <-ctx.Done():
		t.Fatal("no record was written in time")
		panic("unreachable")
	}
}

func TestPingPong(t *testing.T) {
	t.Parallel()
	for _, method := range []string{bidi, unknown} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.on = pingpong(t, f)
			c := f.stream(withPatience(t), t, method)
			for n := range 1000 {
				c.send(strconv.Itoa(n))
				if got := c.next(); got != strconv.Itoa(n) {
					t.Fatalf("round %d brought %q", n, got)
				}
			}
			c.half()
			c.wants(codes.OK)
			if got := len(f.kafka.written()); got != 1001 {
				t.Errorf("%d records, want 1000 messages and the end", got)
			}
		})
	}
}

// Each record of a stream has the full header set, in the contract's order; the last one is null.
func TestRecordsOfAStream(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.on = pingpong(t, f)
	c := f.stream(withPatience(t), t, bidi, "idempotency-key", "k1", "x", "1", "x", "2", "b-bin", "\x00")
	c.send("a", "", "b")
	c.half()
	c.wants(codes.OK, "a", "", "b")
	records := f.kafka.written()
	var values []string
	for i, r := range records {
		values = append(values, fmt.Sprintf("%#v", r.Value))
		var names []string
		for _, h := range r.Headers {
			names = append(names, h.Name)
		}
		want := []string{
			"zilla:service", "zilla:method", "zilla:reply-to", "zilla:correlation-id",
			"meta:b-bin", "meta:idempotency-key", "meta:x", "meta:x", "grpc:call", "grpc:deadline", "grpc:message",
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		same := slices.Clone(records[0].Headers)
		same[len(same)-1].Value = []byte(strconv.Itoa(i))
		if diff := cmp.Diff(same, r.Headers); diff != "" {
			t.Errorf("headers differ from the first record's:\n%s", diff)
		}
		// The scope is the contract's vector of this method.
		if got := string(r.Key); got != "k1-46ae5cdb4b46cbb367cbad0bea36a56f" {
			t.Errorf("key = %q", got)
		}
	}
	want := []string{`[]byte{0x61}`, `[]byte{}`, `[]byte{0x62}`, `[]byte(nil)`}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func TestKindsOfCalls(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method string
		send         []string
		replies      []string
		want         []string
	}{
		{"server stream", serverStream, []string{"x"}, []string{"1", "2", "3"}, []string{"1", "2", "3"}},
		{"server stream without a message", serverStream, []string{"x"}, nil, nil},
		{"client stream", clientStream, []string{"x", "y", "z"}, []string{"sum"}, []string{"sum"}},
		{"client stream without a message", clientStream, nil, []string{"sum"}, []string{"sum"}},
		{"client stream, answered again after a crash", clientStream, []string{"x"}, []string{"lost", "stored"}, []string{"stored"}},
		{"bidi without any message", bidi, nil, nil, nil},
		{"unknown method as a server stream", unknown, []string{"x"}, []string{"1", "2"}, []string{"1", "2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.on = func(r wire.Record) {
				if r.Value != nil {
					return
				}
				request := request(t, r)
				reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call, Metadata: fields("h", "1"), Trailers: fields("t", "1")}
				for _, value := range tt.replies {
					f.kafka.reply(f.calls, message(reply, value))
				}
				f.kafka.reply(f.calls, end(reply))
			}
			c := f.stream(withPatience(t), t, tt.method)
			c.send(tt.send...)
			c.half()
			c.wants(codes.OK, tt.want...)
			header, err := c.Header()
			if err != nil || !slices.Equal(header["h"], []string{"1"}) || !slices.Equal(c.Trailer()["t"], []string{"1"}) {
				t.Errorf("header %v, trailer %v (%v)", header, c.Trailer(), err)
			}
			var sent []string
			for _, r := range f.kafka.written() {
				if r.Value != nil {
					sent = append(sent, string(r.Value))
				}
			}
			if diff := cmp.Diff(tt.send, sent); diff != "" {
				t.Errorf("messages on Kafka (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMessagesFlowWhileTheCallIsOpen(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.sent = make(chan wire.Record, 10)
	ctx := withPatience(t)
	c := f.stream(ctx, t, bidi)
	c.send("x")
	reply := f.first(ctx, t)
	reply.Metadata = fields("h", "1")
	f.kafka.reply(f.calls, message(reply, "1"))
	if got := c.next(); got != "1" {
		t.Errorf("first message %q", got)
	}
	if header, err := c.Header(); err != nil || !slices.Equal(header["h"], []string{"1"}) {
		t.Errorf("header %v, %v: want it with the first message", header, err)
	}
	reply.Status, reply.Message = codes.NotFound, "no more"
	f.kafka.reply(f.calls, message(reply, "2"), end(reply))
	c.wants(codes.NotFound, "2")
	// The service ended before the caller did. The processor still has to learn that nothing follows.
	canceled(ctx, t, f)
}

func TestFailedReplies(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.sent = make(chan wire.Record, 10)
	ctx := withPatience(t)
	c := f.stream(ctx, t, bidi)
	c.send("x")
	bad := message(f.first(ctx, t), "1")
	bad.Headers = append(bad.Headers, wire.Header{Name: "zilla:status", Value: []byte("none")})
	f.kafka.reply(f.calls, bad)
	c.wants(codes.Internal)
	canceled(ctx, t, f)
}

// Two attempts with one key from two instances: their records and replies interleave and do not mix.
func TestInterleavedAttempts(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	a.kafka.sent, b.kafka.sent = make(chan wire.Record, 10), make(chan wire.Record, 10)
	ctx := withPatience(t)
	ca, cb := a.stream(ctx, t, bidi, "idempotency-key", "k"), b.stream(ctx, t, bidi, "idempotency-key", "k")
	ca.send("x")
	cb.send("x")
	ra, rb := a.first(ctx, t), b.first(ctx, t)
	if ra.CorrelationID != rb.CorrelationID || ra.Call == rb.Call {
		t.Fatalf("attempts %+v and %+v, want one correlation id and two calls", ra, rb)
	}
	deliver := func(records ...wire.Record) { // both instances see the whole topic
		for _, r := range records {
			a.kafka.reply(a.calls, r)
			b.kafka.reply(b.calls, r)
		}
	}
	both := wire.Reply{CorrelationID: ra.CorrelationID}
	deliver(message(ra, "a1"), message(rb, "b1"), message(rb, "b2"), message(ra, "a2"), message(both, "all"), end(rb), message(ra, "a3"), end(ra))
	ca.wants(codes.OK, "a1", "a2", "all", "a3")
	cb.wants(codes.OK, "b1", "b2", "all")
}
