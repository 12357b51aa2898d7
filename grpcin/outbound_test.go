package grpcin_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/wire"
)

// slowKafka acknowledges when it is told to.
type slowKafka struct {
	mu      sync.Mutex
	records []wire.Record
	pins    map[*wire.Pin]bool
	waiting []func(int64, error)
	free    bool
	most    int
}

func (k *slowKafka) SendPinned(r wire.Record, pin *wire.Pin, done func(int64, error)) {
	k.mu.Lock()
	k.records = append(k.records, r)
	if k.pins == nil {
		k.pins = map[*wire.Pin]bool{}
	}
	k.pins[pin] = true
	if !k.free {
		k.waiting = append(k.waiting, done)
		k.most = max(k.most, len(k.waiting))
		k.mu.Unlock()
		return
	}
	k.mu.Unlock()
	done(0, nil)
}

func (k *slowKafka) acknowledge() { k.refuse(nil) }

// refuse ends what waits, with an error or without.
func (k *slowKafka) refuse(err error) {
	k.mu.Lock()
	waiting := k.waiting
	k.waiting, k.free = nil, true
	k.mu.Unlock()
	for _, done := range waiting {
		done(0, err)
	}
}

func (k *slowKafka) written() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.records)
}

// What Kafka has not acknowledged is bounded, by number and by bytes; then the caller waits.
func TestFastSenderWaitsForKafka(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		messages int
		size     int
		held     int // records on their way
	}{
		{"many small messages", 5000, 10, 256},
		{"large messages", 40, 300 << 10, 3},
		{"messages above the limit", 5, 2 << 20, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := &slowKafka{}
			f := start(t, func(o *grpcin.Options, _ *front) { o.Senders = map[string]grpcin.Sender{"kafka_client": k} })
			c := f.stream(withPatience(t), t, clientStream)
			var sending sync.WaitGroup
			sending.Go(func() {
				for n := range tt.messages {
					m := make([]byte, tt.size)
					copy(m, strconv.Itoa(n))
					if err := c.SendMsg(&m); err != nil {
						t.Errorf("message %d: %v", n, err)
						return
					}
				}
				if err := c.CloseSend(); err != nil {
					t.Error(err)
				}
			})
			eventually(t, "the limit is reached", func() bool { return k.written() == tt.held })
			k.acknowledge()
			sending.Wait()
			eventually(t, "everything is written", func() bool { return k.written() == tt.messages+1 })
			if k.most != tt.held {
				t.Errorf("%d records were on their way at once, want at most %d", k.most, tt.held)
			}
			if len(k.pins) != 1 || k.pins[nil] {
				t.Errorf("the records of the call have %d pins, none among them: %t", len(k.pins), k.pins[nil])
			}
			for n, r := range k.records[:tt.messages] {
				if !strings.HasPrefix(string(r.Value), strconv.Itoa(n)+"\x00") && strconv.Itoa(n) != strings.TrimRight(string(r.Value), "\x00") {
					t.Fatalf("record %d is message %.10q", n, r.Value)
				}
			}
			if last := k.records[tt.messages]; last.Value != nil {
				t.Error("the last record is not null")
			}
			r := request(t, k.records[0])
			reply := wire.Reply{CorrelationID: r.CorrelationID, Call: r.Call}
			f.kafka.reply(f.calls, message(reply, "done"), end(reply))
			c.wants(codes.OK, "done")
		})
	}
}

// The end is written only when everything before it is: a request with a hole must never look complete.
func TestRecordThatFailsInAStream(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		fails  string
		sent   []string
		code   codes.Code
		cancel bool
	}{
		{"the first", "a", nil, codes.Internal, false},
		{"a later one", "b", []string{"a"}, codes.Internal, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.fail = func(r wire.Record) error {
				if string(r.Value) == tt.fails {
					return errRejected
				}
				return nil
			}
			c := f.stream(withPatience(t), t, clientStream)
			c.send("a", "b")
			c.half()
			c.wants(tt.code)
			eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
			want := tt.sent
			if tt.cancel {
				want = append(want, "canceled")
			}
			eventually(t, "the records are "+fmt.Sprint(want), func() bool {
				var got []string
				for _, r := range f.kafka.written() {
					switch {
					case r.Value != nil:
						got = append(got, string(r.Value))
					case request(t, r).Canceled:
						got = append(got, "canceled")
					default:
						got = append(got, "end")
					}
				}
				return slices.Equal(got, want)
			})
		})
	}
}

// A null record alone is a stream without a message, so the end of a server stream waits for what it ends.
func TestMessageThatFailsOfAServerStream(t *testing.T) {
	t.Parallel()
	k := &slowKafka{}
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Senders = map[string]grpcin.Sender{"kafka_client": k}
		o.Rejected = func(error) bool { return true }
	})
	c := f.stream(withPatience(t), t, serverStream)
	c.send("a")
	c.half()
	eventually(t, "the message is on its way", func() bool { return k.written() > 0 })
	k.refuse(errRejected)
	c.wants(codes.Internal)
	eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
	if n := k.written(); n != 1 {
		t.Errorf("%d records, want the refused one alone", n)
	}
}

func TestTooLargeMessage(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, _ *front) { o.Listener.Server.MaxMessage = 1000 })
	f.kafka.sent = make(chan wire.Record, 10)
	ctx := withPatience(t)
	if r := f.call(ctx, unary, strings.Repeat("x", 1001)); r.Status != codes.ResourceExhausted {
		t.Errorf("unary: %+v, want RESOURCE_EXHAUSTED", r)
	}
	c := f.stream(ctx, t, bidi)
	c.send("x", strings.Repeat("x", 1001))
	c.wants(codes.ResourceExhausted)
	f.first(ctx, t)
	canceled(ctx, t, f)
}

// A record that its topic does not take says so.
func TestRequestAboveItsTopic(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, f *front) {
		f.kafka.fail = func(r wire.Record) error {
			if len(r.Value) > 1000 {
				return errRejected
			}
			return nil
		}
		o.TooLarge = o.Rejected
	})
	for _, method := range []string{unary, clientStream, bidi} {
		c := f.stream(withPatience(t), t, method)
		c.send(strings.Repeat("x", 1001))
		if method == unary {
			c.half()
		}
		c.wants(codes.ResourceExhausted)
	}
}
