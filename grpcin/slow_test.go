package grpcin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func limits(l grpcin.Limits) setting {
	return func(o *grpcin.Options, f *front) {
		f.calls = grpcin.NewCalls([]topology.Listener{o.Listener}, l)
		o.Calls = f.calls
	}
}

// slow opens a server stream whose replies can be given.
func (f *front) slow(ctx context.Context, t testing.TB) (caller, wire.Reply) {
	t.Helper()
	c := f.stream(ctx, t, serverStream)
	c.send("x")
	c.half()
	reply := f.first(ctx, t)
	<-f.kafka.sent // the end
	return c, reply
}

func large(n int) string { return fmt.Sprintf("%d %s", n, strings.Repeat("x", 1000)) }

// wantsLarge fails unless the rest is large messages from 0 on, and OK.
func (c caller) wantsLarge(n int) {
	c.t.Helper()
	got, err := c.rest()
	if err != nil || len(got) != n {
		c.t.Errorf("%d messages, %v, want %d", len(got), err, n)
		return
	}
	for i, m := range got {
		if m != large(i) {
			c.t.Errorf("message %d is %.10q", i, m)
			return
		}
	}
}

// Kafka holds what callers do not take: memory stays bounded, others are served, and nothing is lost or repeated.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	const readers, messages = 3, 1500
	for name, l := range map[string]grpcin.Limits{
		"a number of replies":     {Replies: 7},
		"bytes of replies":        {ReplyBytes: 10 << 10},
		"bytes of all":            {TotalBytes: 20 << 10},
		"one reader for all":      {Replies: 100, Readers: 1},
		"no room for one message": {ReplyBytes: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, limits(l))
			f.kafka.sent = make(chan wire.Record, 10)
			ctx := withPatience(t)
			var callers [readers]caller
			var replies [readers]wire.Reply
			for i := range readers {
				callers[i], replies[i] = f.slow(ctx, t)
			}
			held := 0
			for n := range messages {
				for _, reply := range replies {
					f.kafka.reply(f.calls, message(reply, large(n)))
					held = max(held, f.calls.Held())
				}
			}
			for _, reply := range replies {
				f.kafka.reply(f.calls, end(reply))
			}
			// 7, 10 and 20 of them are what the limits allow for each or for all; 100 in the last case.
			if most := readers * 101 * (1024 + 128); held == 0 || held > most {
				t.Errorf("%d bytes were held in memory, want some, at most %d", held, most)
			}
			// Another call is served while these three take nothing.
			f.kafka.on = func(r wire.Record) {
				if r.Value == nil {
					request := request(t, r)
					reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
					f.kafka.reply(f.calls, message(reply, "quick"), end(reply))
				}
			}
			for _, method := range []string{unary, serverStream} {
				c := f.stream(ctx, t, method)
				c.send("x")
				c.half()
				c.wants(codes.OK, "quick")
			}
			var reading sync.WaitGroup
			for _, c := range callers {
				reading.Go(func() {
					c.wantsLarge(messages)
				})
			}
			reading.Wait()
			eventually(t, "nothing is held", func() bool { return f.calls.Held() == 0 && f.calls.Waiting() == 0 })
			if f.kafka.reads == 0 {
				t.Error("nothing was read again: the test tests nothing")
			}
		})
	}
}

// The replies of one call end up in two partitions when some are added while it is open.
func TestSlowReaderWhilePartitionsAreAdded(t *testing.T) {
	t.Parallel()
	reader := &partitions{}
	f := start(t, limits(grpcin.Limits{Replies: 1}), func(o *grpcin.Options, _ *front) {
		o.Readers = map[string]grpcin.Reader{"kafka_client": reader}
	})
	f.kafka.sent = make(chan wire.Record, 10)
	ctx := withPatience(t)
	c, reply := f.slow(ctx, t)
	for n := range 2000 {
		r := message(reply, large(n))
		r.Partition = int32(n / 1000)
		reader.deliver(f.calls, r)
	}
	last := end(reply)
	last.Partition = 1
	reader.deliver(f.calls, last)
	c.wantsLarge(2000)
}

// partitions is a reply topic with several partitions.
type partitions struct {
	mu  sync.Mutex
	all map[int32][]wire.Record
}

func (p *partitions) deliver(calls *grpcin.Calls, r wire.Record) {
	p.mu.Lock()
	if p.all == nil {
		p.all = map[int32][]wire.Record{}
	}
	r.Offset = int64(len(p.all[r.Partition]))
	p.all[r.Partition] = append(p.all[r.Partition], r)
	p.mu.Unlock()
	calls.Deliver(r)
}

func (p *partitions) Read(_ context.Context, _ string, partition int32, from, to int64, each func(wire.Record) error) error {
	p.mu.Lock()
	records := p.all[partition][from:to]
	p.mu.Unlock()
	for _, r := range records {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

func TestSlowReaderWhoseRepliesCannotBeReadAgain(t *testing.T) {
	t.Parallel()
	f := start(t, limits(grpcin.Limits{Replies: 1}))
	f.kafka.sent = make(chan wire.Record, 10)
	f.kafka.readError = errors.New("offset out of range")
	ctx := withPatience(t)
	c, reply := f.slow(ctx, t)
	for n := range 1000 {
		f.kafka.reply(f.calls, message(reply, large(n)))
	}
	got, err := c.rest()
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "offset out of range") {
		t.Errorf("after %d messages: %v, want UNAVAILABLE with the cause", len(got), err)
	}
	canceled(ctx, t, f)
}

// The caller goes while its replies are being read from Kafka.
func TestSlowReaderThatGoesAway(t *testing.T) {
	t.Parallel()
	reader := &stuck{reading: make(chan struct{})}
	f := start(t, limits(grpcin.Limits{Replies: 1, Readers: 1}), func(o *grpcin.Options, _ *front) {
		o.Readers = map[string]grpcin.Reader{"kafka_client": reader}
	})
	f.kafka.sent = make(chan wire.Record, 10)
	patient := withPatience(t)
	ctx, cancel := context.WithCancel(patient)
	defer cancel()
	c, reply := f.slow(ctx, t)
	for n := range 1000 {
		f.kafka.reply(f.calls, message(reply, large(n)))
	}
	var taking sync.WaitGroup
	taking.Go(func() {
		_, err := c.rest()
		if status.Code(err) != codes.Canceled {
			t.Errorf("%v, want CANCELED", err)
		}
	})
	select {
	case <-reader.reading:
	case <-time.After(patience):
		t.Fatal("nothing was read again")
	}
	cancel()
	taking.Wait()
	canceled(patient, t, f)
}

type stuck struct {
	once    sync.Once
	reading chan struct{}
}

func (s *stuck) Read(ctx context.Context, _ string, _ int32, _, _ int64, _ func(wire.Record) error) error {
	s.once.Do(func() { close(s.reading) })
	<-ctx.Done()
	return ctx.Err()
}
