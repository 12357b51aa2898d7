package grpcin_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/wire"
)

// What callers send is held in memory only as far as a bound for all of them: further messages are not received.
func TestRequestsOfAllCallsAreBounded(t *testing.T) {
	t.Parallel()
	const callers, size, most = 12, 100_000, 4
	for _, method := range []string{unary, serverStream} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			k := &slowKafka{}
			f := start(t, limits(grpcin.Limits{RequestBytes: most * size}), func(o *grpcin.Options, _ *front) {
				o.Senders = map[string]grpcin.Sender{"kafka_client": k}
				o.Listener.Server.MaxMessage = size
			})
			ctx := withPatience(t)
			var calling sync.WaitGroup
			for range callers {
				calling.Go(func() {
					c := f.stream(ctx, t, method)
					c.send(strings.Repeat("x", size))
					c.half()
					c.wants(codes.OK, "done")
				})
			}
			messages := func() (n int) {
				k.mu.Lock()
				defer k.mu.Unlock()
				for _, r := range k.records {
					if r.Value != nil {
						n++
					}
				}
				return n
			}
			eventually(t, "the bound is reached", func() bool { return messages() == most })
			eventually(t, "all callers wait", func() bool { return f.calls.Waiting() == callers })
			answered := map[string]bool{}
			for len(answered) < callers {
				if n := messages() - len(answered); n > most {
					t.Fatalf("%d messages were not acknowledged, want at most %d", n, most)
				}
				k.mu.Lock()
				waiting, records := k.waiting, k.records
				k.waiting = nil
				k.mu.Unlock()
				for _, done := range waiting {
					done(0, nil)
				}
				for _, r := range records {
					request := request(t, r)
					if !answered[request.Call] {
						answered[request.Call] = true
						reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
						f.calls.Deliver(message(reply, "done"))
						f.calls.Deliver(end(reply))
					}
				}
			}
			k.acknowledge()
			calling.Wait()
		})
	}
}

// A caller that is slow to send its message keeps others out only for a while.
func TestSlowSendersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const size = 100_000
	f := start(t, limits(grpcin.Limits{RequestBytes: 2 * size}), func(o *grpcin.Options, _ *front) { o.Listener.Server.MaxMessage = size })
	f.kafka.on = echo(t, f.calls)
	ctx, cancel := context.WithCancel(withPatience(t))
	defer cancel()
	for range 5 {
		f.stream(ctx, t, unary) // and nothing else
	}
	eventually(t, "five calls wait", func() bool { return f.calls.Waiting() == 5 })
	if r := f.call(withPatience(t), unary, "hello"); r.Status != codes.OK || r.Message != "hello" {
		t.Errorf("%+v", r)
	}
	cancel()
	eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
}

// Large replies are held in memory only as far as a bound for all of them; the others stay on Kafka until there is room.
func TestLargeRepliesOfAllCallsAreBounded(t *testing.T) {
	t.Parallel()
	const callers, size, most = 10, 100_000, 3
	large := func(n int) string { return fmt.Sprintf("%d %s", n, strings.Repeat("x", size)) }
	for _, method := range []string{unary, serverStream} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			f := start(t, limits(grpcin.Limits{ReplyBytes: 1000, TotalBytes: most*size + 10_000, Readers: 2}))
			f.kafka.sent = make(chan wire.Record, 2*callers)
			ctx := withPatience(t)
			var callersOf []caller
			var replies []wire.Reply
			for range callers {
				c := f.stream(ctx, t, method)
				c.send("x")
				c.half()
				callersOf, replies = append(callersOf, c), append(replies, f.first(ctx, t))
				<-f.kafka.sent // the end
			}
			for n, reply := range replies {
				f.kafka.reply(f.calls, message(reply, large(n)), message(reply, large(n)+"again"))
			}
			if held := f.calls.Held(); method == serverStream && held > most*(size+1000) {
				t.Errorf("%d bytes are held", held)
			}
			small := f.stream(ctx, t, method)
			small.send("x")
			small.half()
			reply := f.first(ctx, t)
			f.kafka.reply(f.calls, message(reply, "small"), end(reply))
			small.wants(codes.OK, "small")
			for _, reply := range replies {
				f.kafka.reply(f.calls, end(reply))
			}
			var reading sync.WaitGroup
			for n, c := range callersOf {
				reading.Go(func() {
					want := []string{large(n), large(n) + "again"}
					if method == unary {
						want = want[1:] // the latest counts
					}
					c.wants(codes.OK, want...)
				})
			}
			reading.Wait()
			eventually(t, "nothing is held", func() bool { return f.calls.Held() == 0 && f.calls.Waiting() == 0 })
			f.kafka.mu.Lock()
			defer f.kafka.mu.Unlock()
			if f.kafka.reads == 0 {
				t.Error("nothing was read again: the test tests nothing")
			}
		})
	}
}
