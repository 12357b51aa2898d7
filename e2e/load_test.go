package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// maxCalls and maxBytes bound what one load makes, whatever its time.
const (
	maxCalls = 4_000_000
	maxBytes = 8 << 30 // of messages, each of which is in some four records and on the disk
)

// load makes calls, so many at once, until ctx ends, and returns when all are answered. An error is a call that was not answered
// rightly, or not once.
type load func(ctx context.Context, t *tally) error

// tally is of the calls of a load. It is safe for concurrent use.
type tally struct {
	mu    sync.Mutex
	made  int // that were answered
	opens time.Time
	took  []time.Duration // of those that were answered while it was open
	open  bool
	spent time.Duration // while it was open
}

func (t *tally) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.opens = true, time.Now()
}

func (t *tally) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.spent = false, time.Since(t.opens)
}

func (t *tally) answered(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made++
	if t.open {
		t.took = append(t.took, took)
	}
}

// most is how many calls a load makes at most.
func (c benchCase) most() int { return min(maxCalls, maxBytes/4/c.message) }

// overGRPC calls UnaryEcho, at most so many times.
func overGRPC(callers []caller, c benchCase, most int) load {
	message := string(c.payload())
	return func(ctx context.Context, t *tally) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var begun atomic.Int64
		var failed atomic.Pointer[error]
		var wg sync.WaitGroup
		for i := range c.inFlight {
			caller := callers[i%len(callers)]
			wg.Go(func() {
				for ctx.Err() == nil {
					n := begun.Add(1)
					if n > int64(most) {
						return
					}
					began := time.Now()
					r := caller.call(fmt.Sprintf("call-%d", n), message)
					if r.err == nil && r.message != message {
						r.err = fmt.Errorf("call %d was answered with another message", n)
					}
					if r.err != nil {
						failed.CompareAndSwap(nil, &r.err)
						cancel()
						return
					}
					t.answered(time.Since(began))
				}
			})
		}
		wg.Wait()
		if err := failed.Load(); err != nil {
			return *err
		}
		return nil
	}
}

// topicLoad writes request records, as a server in front would, and reads reply records. A goroutine does all of it: the reply to
// a call makes the next one. It is the same for whatever answers, and does as little as it can.
type topicLoad struct {
	benchCase
	client   *kgo.Client
	requests string
	message  []byte
	suffix   []byte // of all correlation ids
	// headers of the two records, with those that each call has of its own at the given places.
	headers                [2][]kgo.RecordHeader
	correlation, key, call int

	calls []topicCall
	made  int
	fail  context.CancelCauseFunc
}

// topicCall is one that is in flight, or the last one that was in its place.
type topicCall struct {
	number   int
	began    time.Time
	messages int  // of its reply so far
	ended    bool // it was answered
}

// overTopics answers a load of a client that reads the reply topic; nobody else may use it.
func overTopics(client *kgo.Client, c benchCase, requests, replies string) load {
	return func(ctx context.Context, t *tally) error {
		return newTopicLoad(client, c, requests, replies).run(ctx, t)
	}
}

// newTopicLoad encodes headers once for all calls.
func newTopicLoad(client *kgo.Client, c benchCase, requests, replies string) *topicLoad {
	l := &topicLoad{benchCase: c, client: client, requests: requests, message: c.payload(), calls: make([]topicCall, c.inFlight), fail: func(error) {}}
	const correlation, key, call = "the correlation id", "the key", "the call"
	contract := wire.DefaultContract()
	l.suffix = []byte(contract.ScopeID("", echo, "UnaryEcho", replies, nil))
	for n := range l.headers {
		l.headers[n] = kafkaHeaders(contract.EncodeRequest(wire.Request{
			Service: echo, Method: "UnaryEcho", ReplyTo: replies, CorrelationID: correlation, Call: call, Number: wire.Nth(n),
			Deadline: time.Now().Add(time.Hour), Metadata: wire.Metadata{{Name: "idempotency-key", Value: key}},
		}, nil))
	}
	place := func(value string) int {
		return slices.IndexFunc(l.headers[0], func(h kgo.RecordHeader) bool { return string(h.Value) == value })
	}
	l.correlation, l.key, l.call = place(correlation), place(key), place(call)
	return l
}

func (l *topicLoad) run(ctx context.Context, t *tally) error {
	failing, fail := context.WithCancelCause(context.Background())
	defer fail(nil)
	l.fail = fail
	for slot := range l.calls {
		l.send(failing, slot)
	}
	answered := 0
	for answered < l.made {
		polling, cancel := context.WithTimeout(failing, patience)
		fetches := l.client.PollFetches(polling)
		cancel()
		if cause := context.Cause(failing); cause != nil {
			return cause
		}
		if err := fetches.Err(); errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%d requests of %d were not answered, and nothing came for %s", l.made-answered, l.made, patience)
		} else if err != nil {
			return err
		}
		now := time.Now()
		for replies := fetches.RecordIter(); !replies.Done(); {
			slot, err := l.take(replies.Next())
			if err != nil {
				return err
			}
			if slot < 0 {
				continue // the end follows
			}
			answered++
			t.answered(now.Sub(l.calls[slot].began))
			if ctx.Err() == nil && l.made < l.most() {
				l.send(failing, slot)
			}
		}
	}
	return nil
}

// send begins the next call of a slot.
func (l *topicLoad) send(ctx context.Context, slot int) {
	l.made++
	l.calls[slot] = topicCall{number: l.made, began: time.Now()}
	id := make([]byte, 0, 64)
	id = append(strconv.AppendInt(append(strconv.AppendInt(append(id, "call-"...), int64(slot), 10), '-'), int64(l.made), 10), l.suffix...)
	key := id[: len(id)-len(l.suffix) : len(id)-len(l.suffix)]
	for n, value := range [][]byte{l.message, nil} {
		headers := slices.Clone(l.headers[n])
		headers[l.correlation].Value, headers[l.key].Value, headers[l.call].Value = id, key, key
		l.client.Produce(ctx, &kgo.Record{Topic: l.requests, Key: id, Value: value, Headers: headers}, func(_ *kgo.Record, err error) {
			if err != nil {
				l.fail(err)
			}
		})
	}
}

// take checks a reply record, and answers the slot of the call that it ends; -1: it ends none.
func (l *topicLoad) take(r *kgo.Record) (slot int, err error) {
	problem := func(what string) error {
		return fmt.Errorf("%s/%d@%d, of %s: %s", r.Topic, r.Partition, r.Offset, r.Key, what)
	}
	parts := bytes.SplitN(r.Key, []byte("-"), 4)
	if len(parts) < 4 {
		return -1, problem("it answers no request")
	}
	slot, _ = strconv.Atoi(string(parts[1]))
	number, err := strconv.Atoi(string(parts[2]))
	if err != nil || slot < 0 || slot >= len(l.calls) || l.calls[slot].number != number || l.calls[slot].ended {
		return -1, problem("its request was answered before, or never made")
	}
	call := &l.calls[slot]
	if r.Value != nil {
		if call.messages++; call.messages > 1 || !bytes.Equal(r.Value, l.message) {
			return -1, problem("it is not the message")
		}
		return -1, nil
	}
	ok := slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "zilla:status" && string(h.Value) == "0" })
	if !ok || call.messages != 1 {
		return -1, problem("the call was not answered with OK and a message")
	}
	call.ended = true
	return slot, nil
}

func kafkaHeaders(headers []wire.Header) []kgo.RecordHeader {
	out := make([]kgo.RecordHeader, len(headers))
	for i, h := range headers {
		out[i] = kgo.RecordHeader{Key: h.Name, Value: h.Value}
	}
	return out
}

func wireHeaders(k *kgo.Record) []wire.Header {
	out := make([]wire.Header, len(k.Headers))
	for i, h := range k.Headers {
		out[i] = wire.Header{Name: h.Key, Value: h.Value}
	}
	return out
}
