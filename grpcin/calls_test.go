package grpcin_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func TestConcurrentCallers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		callers int
		key     func(i int) string
	}{
		{"distinct keys", 1000, func(i int) string { return "k" + strconv.Itoa(i) }},
		{"one key", 100, func(int) string { return "k" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.sent = make(chan wire.Record, 2*tt.callers)
			ctx := withPatience(t)
			var callers, processor sync.WaitGroup
			for i := range tt.callers {
				callers.Go(func() {
					value := strconv.Itoa(i)
					if r := f.call(ctx, unary, value, "idempotency-key", tt.key(i)); r.Status != codes.OK || r.Message != value {
						t.Errorf("caller %d: %+v", i, r)
					}
				})
			}
			// All calls wait before the first is answered, and the last is answered first.
			processor.Go(func() {
				values, order := map[string][]byte{}, []wire.Request{}
				for range 2 * tt.callers {
					select {
					case r := <-f.kafka.sent:
						request := request(t, r)
						if r.Value != nil {
							values[request.Call] = r.Value
						} else {
							order = append(order, request)
						}
					case <-ctx.Done():
						t.Errorf("%d calls were complete in time, want %d", len(order), tt.callers)
						return
					}
				}
				for i := len(order) - 1; i >= 0; i-- {
					reply := wire.Reply{CorrelationID: order[i].CorrelationID, Call: order[i].Call}
					f.calls.Deliver(message(reply, string(values[order[i].Call])))
					f.calls.Deliver(end(reply))
				}
			})
			callers.Wait()
			processor.Wait()
		})
	}
}

func TestReplyWithoutCallAnswersAllOfItsKey(t *testing.T) {
	t.Parallel()
	const callers = 5
	f := start(t)
	f.kafka.sent = make(chan wire.Record, 2*(callers+1))
	ctx, cancel := context.WithCancel(withPatience(t))
	defer cancel()
	var wg, other sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if r := f.call(ctx, unary, "x", "idempotency-key", "k1"); r.Status != codes.OK || r.Message != "y" {
				t.Errorf("result = %+v", r)
			}
		})
	}
	other.Go(func() {
		if r := f.call(ctx, unary, "x", "idempotency-key", "k2"); r.Status != codes.Canceled {
			t.Errorf("caller with another key: %+v, want no answer", r)
		}
	})
	for range 2 * (callers + 1) {
		select {
		case <-f.kafka.sent:
		case <-ctx.Done():
			t.Fatal("the calls were not written in time")
		}
	}
	reply := wire.Reply{CorrelationID: "k1" + scope}
	f.calls.Deliver(message(reply, "y"))
	f.calls.Deliver(end(reply))
	wg.Wait()
	eventually(t, "one call waits", func() bool { return f.calls.Waiting() == 1 })
	cancel()
	other.Wait()
}

func TestCallersThatGiveUp(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options setting
		leave   func(context.Context) (context.Context, context.CancelFunc)
		want    codes.Code
	}{
		{"deadline", nil, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, codes.DeadlineExceeded},
		{"cancel", nil, context.WithCancel, codes.Canceled},
		{"no deadline", func(o *grpcin.Options, _ *front) { o.MaxWait = 10 * time.Millisecond }, context.WithCancel, codes.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			settings := []setting{}
			if tt.options != nil {
				settings = append(settings, tt.options)
			}
			f := start(t, settings...)
			ctx, cancel := tt.leave(context.Background())
			defer cancel()
			f.kafka.on = func(r wire.Record) {
				if r.Value == nil && tt.want == codes.Canceled {
					cancel()
				}
			}
			if r := f.call(ctx, unary, "x"); r.Status != tt.want {
				t.Errorf("result = %+v, want %v", r, tt.want)
			}
			eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
		})
	}
}

func TestTooManyCalls(t *testing.T) {
	t.Parallel()
	f := start(t, limit(1))
	f.kafka.sent = make(chan wire.Record, 4)
	ctx := withPatience(t)
	var first sync.WaitGroup
	first.Go(func() {
		if r := f.call(ctx, unary, "x"); r.Status != codes.OK {
			t.Errorf("first call: %+v", r)
		}
	})
	<-f.kafka.sent
	waiting := request(t, <-f.kafka.sent)
	if r := f.call(ctx, unary, "x"); r.Status != codes.ResourceExhausted {
		t.Errorf("second call: %+v, want RESOURCE_EXHAUSTED", r)
	}
	reply := wire.Reply{CorrelationID: waiting.CorrelationID, Call: waiting.Call}
	f.calls.Deliver(message(reply, "y"))
	f.calls.Deliver(end(reply))
	first.Wait()
	f.kafka.on = echo(t, f.calls)
	if r := f.call(ctx, unary, "x"); r.Status != codes.OK {
		t.Errorf("third call: %+v", r)
	}
}

func BenchmarkDeliverForeignReply(b *testing.B) {
	calls := grpcin.NewCalls([]topology.Listener{listener()}, grpcin.Limits{})
	record := end(wire.Reply{CorrelationID: "k1" + scope, Call: "attempt", Metadata: fields("a", "b", "c", "d")})
	b.ReportAllocs()
	for b.Loop() {
		calls.Deliver(record)
	}
}

func BenchmarkCall(b *testing.B) {
	f := start(b)
	f.kafka.on = echo(b, f.calls)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if r := f.call(ctx, unary, "x", "idempotency-key", "k1"); r.Status != codes.OK {
			b.Fatalf("%+v", r)
		}
	}
}
