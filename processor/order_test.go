package processor_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

func ordered(order string) func(*topology.Remote) {
	return func(r *topology.Remote) { r.Processing.Order = order }
}

// under is a request and its end under a record key; nil is null.
func under(key []byte, r wire.Request, text string) []wire.Record {
	records := []wire.Record{message(r, text), end(r)}
	for i := range records {
		records[i].Key = key
	}
	return records
}

// sequence is how the service got calls whose messages are KEY/N.
type sequence struct {
	mu       sync.Mutex
	active   map[string]int
	begun    map[string][]string // by key, repetitions left out
	problems []string
}

// sequenced has the service note the sequence of calls, which answer then as it says.
func (b *testbench) sequenced(keyOf func(text string) string, answer func(ctx context.Context, text string) error) *sequence {
	s := &sequence{active: map[string]int{}, begun: map[string][]string{}}
	b.service.answers(func(ctx context.Context, call received) ([]byte, error) {
		text := call.message[strings.LastIndexByte(call.message, '\n')+1:] // of an event: without the tag, which is \n, and the length
		if text != call.message {
			text = text[1:]
		}
		key := keyOf(text)
		s.mu.Lock()
		if s.active[key]++; s.active[key] > 1 {
			s.problems = append(s.problems, fmt.Sprintf("%s begins while another call of its key goes on", text))
		}
		if !slices.Contains(s.begun[key], text) {
			s.begun[key] = append(s.begun[key], text)
		}
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			s.active[key]--
			s.mu.Unlock()
		}()
		return []byte(call.message), answer(ctx, text)
	})
	return s
}

func firstPart(text string) string { key, _, _ := strings.Cut(text, "/"); return key }

// want checks that each key's calls began in this order, and never two at once.
func (s *sequence) want(t *testing.T, begun map[string][]string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.problems {
		t.Error(p)
	}
	for key, want := range begun {
		if !slices.Equal(s.begun[key], want) {
			t.Errorf("calls of %q began as %q, want %q", key, s.begun[key], want)
		}
	}
}

// has reports how many calls of a key have begun.
func (s *sequence) has(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.begun[key])
}

// queuedRequests is what a scrape says of requests that wait in line.
func queuedRequests(n int) string {
	return fmt.Sprintf(`kafka_grpc_requests_queued{group="test-remote"} %d`, n)
}

// Calls of one record key are made in the order of their offsets, over retries, one at a time; those of others beside them.
func TestCallsOfAKeyAreMadeInOrder(t *testing.T) {
	t.Parallel()
	const keys, calls = 8, 25
	for name, record := range map[string]func(key string, n int) []wire.Record{
		"requests": func(key string, n int) []wire.Record {
			text := fmt.Sprintf("%s/%02d", key, n)
			return under([]byte(key), attempt(text, text), text)
		},
		"events": func(key string, n int) []wire.Record {
			return []wire.Record{event(key, fmt.Sprintf(`{"id":"%s/%02d"}`, key, n))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newShop(t, 2, ordersRoute(), ordered(topology.OrderKey))
			b.started()
			var mu sync.Mutex
			tries := map[string]int{}
			s := b.sequenced(firstPart, func(_ context.Context, text string) error {
				mu.Lock()
				defer mu.Unlock()
				if tries[text]++; tries[text] <= len(text+name)*tries[firstPart(text)]%3 {
					return status.Error(codes.Unavailable, "not now")
				}
				tries[firstPart(text)]++
				return nil
			})
			want := map[string][]string{}
			var records []wire.Record
			for n := range calls {
				for k := range keys {
					key := fmt.Sprint("k", k)
					records = append(records, record(key, n)...)
					want[key] = append(want[key], fmt.Sprintf("%s/%02d", key, n))
				}
			}
			b.produce(records...)
			b.read(keys * calls)
			b.committed()
			s.want(t, want)
			if loop := b.log(b.remote.Loop); len(loop) > 0 {
				t.Errorf("%d records went through the loop topic", len(loop))
			}
		})
	}
}

// A call that is retried holds those behind it under its key, and no others.
func TestHeadOfALineHoldsItsFollowersAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, ordered(topology.OrderKey))
	spans, scrape := b.watched()
	b.started()
	mends := make(chan struct{})
	s := b.sequenced(firstPart, func(_ context.Context, text string) error {
		select {
		case <-mends:
			return nil
		default:
		}
		if text == "a/0" {
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	})
	var at []wire.Record
	for n := range 5 {
		for _, key := range []string{"a", "b", "c"} {
			text := fmt.Sprint(key, "/", n)
			at = append(at, b.produce(under([]byte(key), attempt(text, text), text)...)[0])
		}
	}
	got := b.results(10)
	for id := range got {
		if firstPart(id) == "a" {
			t.Errorf("%s was answered", id)
		}
	}
	b.has(scrape, queuedRequests(4))
	if n := s.has("a"); n != 1 {
		t.Errorf("%d calls of the key were made", n)
	}
	close(mends)
	b.results(5)
	b.has(scrape, queuedRequests(0), `kafka_grpc_stage_duration_seconds_count{method="UnaryEcho",service="grpc.examples.echo.Echo",stage="queue"} 15`)
	s.want(t, map[string][]string{"a": {"a/0", "a/1", "a/2", "a/3", "a/4"}})
	behind := map[string]int{}
	for _, span := range spans.GetSpans() {
		for _, e := range span.Events {
			if e.Name == "waits in line" {
				behind[e.Attributes[0].Value.AsString()]++
			}
		}
	}
	for n := range 4 {
		before := fmt.Sprintf("%s/%d/%d", requests, at[3*n].Partition, at[3*n].Offset)
		if behind[before] != 1 {
			t.Errorf("nothing waits behind %s: %v", before, behind)
		}
	}
	b.committed()
}

// With order: partition a partition makes one call at a time, whatever the keys of its records, over all its topics.
func TestCallsOfAPartitionAreMadeInOrder(t *testing.T) {
	t.Parallel()
	const other = "other-requests"
	b := newBench(t, 2, ordered(topology.OrderPartition), func(r *topology.Remote) {
		second := r.Routes[0]
		second.Topic = other
		r.Routes = append(r.Routes, second)
	})
	if _, err := b.admin.CreateTopics(context.Background(), 2, 1, nil, other); err != nil {
		t.Fatal(err)
	}
	b.started()
	s := b.sequenced(firstPart, func(context.Context, string) error { return nil })
	const calls = 40
	want := map[string][]string{}
	for n := range calls {
		for p := range int32(2) {
			text := fmt.Sprintf("%d/%02d", p, n)
			key := [][]byte{nil, {}, []byte("k"), fmt.Append(nil, n)}[n%4]
			topic := requests
			if n%3 == 0 {
				topic = other
				text = strings.Replace(text, "/", "/o", 1)
			}
			b.produceTo(topic, p, under(key, attempt(text, text), text)...)
			want[fmt.Sprint(p)] = append(want[fmt.Sprint(p)], text)
		}
	}
	b.results(2 * calls)
	b.committed()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.problems {
		t.Error(p)
	}
	for p, texts := range want {
		for _, topic := range []bool{false, true} { // each topic has its order
			of := func(all []string) (out []string) {
				for _, text := range all {
					if strings.Contains(text, "/o") == topic {
						out = append(out, text)
					}
				}
				return out
			}
			if got := of(s.begun[p]); !slices.Equal(got, of(texts)) {
				t.Errorf("calls of partition %s began as %q, want %q", p, got, of(texts))
			}
		}
	}
}

// A row is kept where its request was, and answers there: nothing is re-keyed. In another partition the same idempotency key is another one.
func TestRowsOfOrderedCallsStayWithTheirRequests(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, ordered(topology.OrderKey))
	i := b.started()
	view := b.viewed()
	key := []byte("customer 7")
	r := attempt("order 1", "first")
	own := wire.Partition([]byte(r.CorrelationID), b.partitions)
	at := (own + 1) % 4
	again := func(call string, partition int32) result {
		t.Helper()
		b.produceTo(requests, partition, under(key, attempt("order 1", call), "placed")...)
		got := b.results(1)[call]
		got.check(t, codes.OK, "", "placed")
		return got
	}
	again("first", at)
	again("second", at)
	b.wantExecuted("placed")
	for range 2 {
		for _, row := range b.log(b.remote.Table) {
			if string(row.Key) != r.CorrelationID || row.Partition != at {
				t.Errorf("a row of %q is in partition %d, want %d", row.Key, row.Partition, at)
			}
		}
		if row, err := i.Row(r.CorrelationID); err != nil || row.GetSource().GetPartition() != at {
			t.Errorf("the row is %v, %v", row, err)
		}
		b.eventually("the view has it", func() bool {
			got, err := view.Get(t.Context(), connect.NewRequest(&viewspb.GetRequest{Key: r.CorrelationID}))
			return err == nil && got.Msg.Entry.Source.Partition == at
		})
		i.stop()
		i = b.start(i.dir)
		b.ready(i)
		again("after a restart", at)
	}
	b.wantExecuted("placed")
	again("elsewhere", own)
	b.wantExecuted("placed", "placed")
	b.committed()
	if loop := b.log(b.remote.Loop); len(loop) > 0 {
		t.Errorf("%d records went through the loop topic", len(loop))
	}
}

// A record without a key has no place in an order by keys. An empty key is one.
func TestOrderByKeyNeedsKeys(t *testing.T) {
	t.Parallel()
	b := newShop(t, 1, ordersRoute(), ordered(topology.OrderKey))
	_, scrape := b.watched()
	b.started()
	const says = "the record has no key, and processing.order is key"
	b.produceTo(requests, 0, under(nil, attempt("unary", "unary"), "x")...)
	b.results(1)["unary"].check(t, codes.InvalidArgument, says)
	stream := whole(bidi("stream", "stream"), "1", "2")
	for i := range stream {
		stream[i].Key = nil
	}
	b.produceTo(requests, 0, stream...)
	b.results(1)["stream"].check(t, codes.InvalidArgument, says)
	b.produceTo(requests, 0, under([]byte{}, attempt("empty", "empty"), "x")...)
	b.results(1)["empty"].check(t, codes.OK, "", "x")
	b.produceTo(requests, 0, wire.Record{Value: []byte(`{"id":"1"}`)})
	if cause := b.letters(1)[0].Cause; !strings.Contains(cause.Reason, says) || cause.Class != "event_key" {
		t.Errorf("the dead letter says %q (%s)", cause.Reason, cause.Class)
	}
	b.committed()
	b.has(scrape, queuedRequests(0))
	b.wantExecuted("x")
}

// Attempts of one idempotency key wait in line under one record key, and for its call under another one of their partition.
func TestDuplicatesInOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, ordered(topology.OrderKey))
	_, scrape := b.watched()
	b.started()
	open := b.service.gate()
	b.produce(under([]byte("a"), attempt("k", "1"), "x")...)
	b.service.wait(t, 1)
	b.produce(under([]byte("a"), attempt("k", "2"), "x")...)
	b.produce(under([]byte("a"), attempt("k", "3"), "y")...)
	b.produce(under([]byte("b"), attempt("k", "4"), "x")...)
	b.produce(under([]byte("b"), attempt("l", "5"), "z")...) // behind 4, which is parked
	b.has(scrape, queuedRequests(3), `kafka_grpc_requests_parked{group="test-remote"} 1`)
	open()
	got := b.results(5)
	for _, call := range []string{"1", "2", "4"} {
		got[call].check(t, codes.OK, "", "x")
	}
	got["3"].check(t, codes.FailedPrecondition, "another request")
	got["5"].check(t, codes.OK, "", "z")
	b.wantExecuted("x", "z")
	b.committed()
}

// Who waits in line may give up, or its deadline may pass; those behind it go on.
func TestDeadlineAndCancelInLine(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, ordered(topology.OrderKey))
	_, scrape := b.watched()
	i := b.started()
	open := b.service.gate()
	key := []byte("k")
	b.produce(under(key, attempt("first", "first"), "first")...)
	b.service.wait(t, 1)
	late := attempt("late", "late")
	late.Deadline = soon()
	b.produce(under(key, late, "late")...)
	b.produce(under(key, attempt("gone", "gone"), "gone")...)
	b.produce(under(key, attempt("last", "last"), "last")...)
	b.results(1)["late"].check(t, codes.DeadlineExceeded, "waited for those before it")
	b.has(scrape, queuedRequests(2))
	cancel := canceled(attempt("gone", "gone"))
	cancel.Key = key
	b.produce(cancel)
	b.results(1)["gone"].check(t, codes.Canceled, "")
	b.has(scrape, queuedRequests(1))
	open()
	got := b.results(2)
	got["first"].check(t, codes.OK, "", "first")
	got["last"].check(t, codes.OK, "", "last")
	b.wantExecuted("first", "last")
	if row, err := i.Row(late.CorrelationID); row != nil || err != nil {
		t.Errorf("the row is %v, %v, want none", row, err)
	}
	b.committed()
	b.has(scrape, queuedRequests(0))
}

// The half-close of a request that waits is no request without a message.
func TestEndOfARequestInLine(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, ordered(topology.OrderKey))
	_, scrape := b.watched()
	b.started()
	open := b.service.gate()
	key := []byte("k")
	b.produce(under(key, foreign("1"), "1")...)
	b.service.wait(t, 1)
	b.produce(under(key, foreign("2"), "2")...)
	b.produce(under(key, foreign("3"), "3")...)
	b.has(scrape, queuedRequests(2), `kafka_grpc_consumer_lag{group="test-remote",partition="0",topic="echo-requests"} 0`)
	open()
	got := b.results(3)
	for _, id := range []string{"1", "2", "3"} {
		got[id].check(t, codes.OK, "", id)
	}
	b.committed()
	if answers := b.answers(); len(answers) != 3 {
		t.Errorf("%d attempts were answered", len(answers))
	}
}

// A stream is one call. What comes of one that waits is kept for its turn.
func TestStreamsInLine(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, ordered(topology.OrderKey), func(r *topology.Remote) { r.Processing.StreamIdle = 4 * time.Second })
	_, scrape := b.watched()
	b.started()
	open := b.service.gate()
	all := func(records ...wire.Record) {
		for i := range records {
			records[i].Key = []byte("k")
		}
		b.produce(records...)
	}
	all(under(nil, attempt("first", "first"), "first")...)
	b.service.wait(t, 1)
	ping, gone, hole := bidi("ping", "ping"), bidi("gone", "gone"), bidi("hole", "hole")
	all(message(ping, "1"), message(ping, "2"))
	all(whole(bidi("whole", "whole"), "a", "b")...)
	all(message(gone, "x"), canceled(gone))
	b.results(1)["gone"].check(t, codes.Canceled, "")
	missing := message(hole, "3")
	missing.Headers = wire.DefaultContract().EncodeRequest(numbered(hole, 2), nil)
	all(message(hole, "1"), missing)
	b.results(1)["hole"].check(t, codes.Unavailable, "message 1 of the request is missing")
	all(under(nil, attempt("last", "last"), "last")...)
	b.has(scrape, queuedRequests(3))
	time.AfterFunc(6*time.Second, open) // a stream that waits for its turn is not idle
	// The next call begins when the one before it has ended, and not only when that is answered: in another partition its replies may come first.
	replied := map[string][]string{}
	for _, r := range b.read(4) {
		reply, err := wire.DefaultContract().DecodeReply(r.Headers)
		if err != nil {
			t.Fatal(err)
		}
		replied[reply.Call] = append(replied[reply.Call], fmt.Sprintf("%v %s", reply.Status, r.Value))
	}
	if diff := cmp.Diff(map[string][]string{"first": {"OK first", "OK "}, "ping": {"OK 1", "OK 2"}}, replied); diff != "" {
		t.Fatal(diff)
	}
	all(message(ping, "3"))
	b.reply(ping, "3")
	b.has(scrape, queuedRequests(2))
	all(end(ping))
	got := b.results(3)
	again := bidi("whole", "again")
	all(message(again, "a"))
	b.reply(again, "a")
	b.reply(again, "b") // what was stored; its own request goes on, and nobody waits for that
	all(under(nil, attempt("behind", "behind"), "behind")...)
	b.results(1)["behind"].check(t, codes.OK, "", "behind")
	all(message(again, "b"), end(again))
	b.results(1)["again"].check(t, codes.OK, "")
	got["ping"].check(t, codes.OK, "")
	got["whole"].check(t, codes.OK, "", "a", "b")
	got["last"].check(t, codes.OK, "", "last")
	b.committed()
	b.has(scrape, queuedRequests(0))
}

// An open stream holds its line no longer than until half of what may be in flight waits for it: its own end could not be read. Streams that fewer
// wait for, and what waits for other calls, have nothing to do with that.
func TestOpenStreamThatTooManyWaitFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, ordered(topology.OrderKey), func(r *topology.Remote) { r.Processing.MaxInFlight = 20 })
	_, scrape := b.watched()
	b.started()
	opened := func(id, key string) wire.Request {
		r := bidi(id, id)
		first := message(r, "1")
		first.Key = []byte(key)
		b.produce(first)
		b.reply(r, "1")
		return r
	}
	behind := func(key string, from, n int) {
		for i := from; i < from+n; i++ {
			text := fmt.Sprintf("%s/%d", key, i)
			b.produce(under([]byte(key), attempt(text, text), text)...)
		}
	}
	// Behind a call of one message, there may be as many as there is room for.
	gate := make(chan struct{})
	b.sequenced(firstPart, func(_ context.Context, text string) error {
		if firstPart(text) == "busy" {
			<-gate
		}
		return nil
	})
	other := opened("other", "b")
	behind("busy", 0, 13)
	b.has(scrape, queuedRequests(12))
	close(gate)
	b.results(13)
	few := opened("few", "a")
	behind("a", 0, 4)
	behind("b", 0, 6)
	b.has(scrape, queuedRequests(10))
	queued := whole(bidi("queued", "queued"), "x")
	for i := range queued {
		queued[i].Key = []byte("b")
	}
	b.produce(queued...)
	got := b.results(8)
	got["other"].check(t, codes.ResourceExhausted, "more than 10 records, half of processing.max-in-flight, waited")
	got["queued"].check(t, codes.OK, "", "x")
	b.has(scrape, queuedRequests(4))
	last := end(few)
	last.Key = []byte("a")
	b.produce(last)
	b.results(5)[few.Call].check(t, codes.OK, "")
	last = end(other)
	last.Key = []byte("b")
	b.produce(last) // concerns nobody any more
	// The messages of a stream that waits are in flight, too.
	head := opened("head", "a")
	waits := bidi("waits", "waits")
	for n := range 10 {
		m := message(waits, fmt.Sprint(n))
		m.Key = []byte("a")
		b.produce(m)
	}
	b.has(scrape, queuedRequests(1))
	m := message(waits, "more")
	m.Key = []byte("a")
	last = end(waits)
	last.Key = []byte("a")
	b.produce(m, last)
	got = b.results(2)
	got["head"].check(t, codes.ResourceExhausted, "raise max-in-flight")
	got["waits"].check(t, codes.OK, "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "more")
	m = end(head)
	m.Key = []byte("a")
	b.produce(m)
	b.committed()
	b.has(scrape, queuedRequests(0))
}

func numbered(r wire.Request, n int) wire.Request {
	r.Number = wire.Nth(n)
	return r
}

// An event has its place in line before its value is read, for which something may have to be fetched.
func TestEventsWaitForTheSchemaOfOneBeforeThem(t *testing.T) {
	t.Parallel()
	const slow = "{topic: " + requests + ", headers: {type: slow}, reply-to: " + replies + "}"
	b := newShop(t, 1, eventRoute(slow, "method: shop.v1.Orders/Place", "idempotency-key: '${message.value.id}'")+ordersRoute(), ordered(topology.OrderKey))
	_, scrape := b.watched()
	decoder := &slowDecoder{gate: make(chan struct{}), fails: 3}
	plain := b.codecs
	b.codecs = func(e topology.Event) (payload.Decoder, payload.Encoder, error) {
		d, w, err := plain(e)
		if e.Key != nil {
			decoder.Decoder, d = d, decoder
		}
		return d, w, err
	}
	b.started()
	s := b.sequenced(firstPart, func(context.Context, string) error { return nil })
	b.produce(event("a", `{"id":"a/0"}`, header("type", "slow")), event("a", `{"id":7}`, header("type", "slow")),
		event("a", `{"id":"a/1"}`), event("b", `{"id":"b/0"}`), event("a", `{"id":"a/2"}`, header("type", "slow")), event("a", `{"id":"a/3"}`))
	if r := b.read(1)[0]; string(r.Key) != "b" {
		t.Fatal(describe([]wire.Record{r}))
	}
	b.has(scrape, queuedRequests(2))
	close(decoder.gate)
	b.read(5) // one of them a dead letter
	s.want(t, map[string][]string{"a": {"a/0", "a/1", "a/2", "a/3"}, "b": {"b/0"}})
	b.committed()
	b.has(scrape, queuedRequests(0))
}

// A stop lets no call out of a line begin, and does not wait for those in it: the next start makes them, in order.
func TestStopStartsNobodyOutOfALine(t *testing.T) {
	t.Parallel()
	b := newShop(t, 1, ordersRoute(), ordered(topology.OrderKey), func(r *topology.Remote) { r.Processing.Drain = time.Hour })
	_, scrape := b.watched()
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	gate := make(chan struct{})
	s := b.sequenced(firstPart, func(context.Context, string) error { <-gate; return nil })
	key := []byte("k")
	b.produce(under(key, attempt("0", "k/0"), "k/0")...)
	b.service.wait(t, 1)
	stream := whole(bidi("stream", "k/1"), "1", "2")
	for n := range stream {
		stream[n].Key = key
	}
	open := message(bidi("open", "open"), "1")
	open.Key = key
	b.produce(stream...)
	b.produce(under(key, attempt("2", "k/2"), "k/2")...)
	b.produce(event("k", `{"id":"k/3"}`), open)
	b.has(scrape, queuedRequests(4))
	i.begin()
	b.eventually("the drain", func() bool { return strings.Contains(log.String(), "about to be given up") })
	close(gate)
	i.stop()
	b.results(1)["k/0"].check(t, codes.OK, "", "k/0")
	b.wantExecuted("k/0")
	b.ready(b.start(i.dir))
	cancel := canceled(bidi("open", "open"))
	cancel.Key = key
	b.produce(cancel)
	b.committed()
	s.want(t, map[string][]string{"k": {"k/0", "k/2", "k/3"}})
}

// What an instance had in flight when it was killed is executed again by the next one, and in order.
func TestKilledInstanceKeepsTheOrder(t *testing.T) {
	t.Parallel()
	for _, order := range []string{topology.OrderKey, topology.OrderPartition} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2, ordered(order))
			const keys, calls = 4, 30
			var killed sync.Once
			var first *child
			of := firstPart
			if order == topology.OrderPartition {
				of = func(text string) string { return fmt.Sprint(wire.Partition([]byte(firstPart(text)), 2)) }
			}
			s := b.sequenced(of, func(_ context.Context, text string) error {
				if strings.HasSuffix(text, "/07") {
					killed.Do(first.kill)
				}
				return nil
			})
			first = b.startChild(t, 6*time.Second)
			first.says("partitions assigned")
			want := map[string][]string{}
			var records []wire.Record
			for n := range calls {
				for k := range keys {
					key := fmt.Sprint("k", k)
					text := fmt.Sprintf("%s/%02d", key, n)
					r := attempt(text, text)
					records = append(records, under([]byte(key), r, text)...)
					want[of(text)] = append(want[of(text)], text)
				}
			}
			b.produce(records...)
			<-first.read // it is dead
			b.start(t.TempDir())
			b.answersTo(keys * calls)
			s.want(t, want)
		})
	}
}

// Instances that come and go keep the order.
func TestOrderOverRebalances(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, ordered(topology.OrderKey))
	first := b.started()
	s := b.sequenced(firstPart, func(context.Context, string) error { return nil })
	const keys = 16
	want := map[string][]string{}
	sent := 0
	send := func(n int) {
		for range n {
			var records []wire.Record
			for k := range keys {
				key := fmt.Sprint("k", k)
				text := fmt.Sprintf("%s/%d", key, sent)
				records = append(records, under([]byte(key), attempt(text, text), text)...)
				want[key] = append(want[key], text)
			}
			sent++
			b.produce(records...)
		}
	}
	send(20)
	second := b.start(t.TempDir())
	send(20)
	b.ready(second)
	send(20)
	first.begin()
	send(20)
	first.stop()
	b.evict(first.dir)
	b.results(keys * sent)
	for id, answers := range b.answers() {
		if len(answers) != 1 {
			t.Errorf("%s was answered %d times", id, len(answers))
		}
	}
	s.want(t, want)
	b.wantExecuted(slices.Concat(slices.Collect(maps.Values(want))...)...)
}

// What comes in partitions that the table lacks goes to those in which its keys were before, if the topic has a multiple of them.
func TestOrderInPartitionsAddedToARequestTopic(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, ordered(topology.OrderKey))
	i := b.started()
	s := b.sequenced(firstPart, func(context.Context, string) error { return nil })
	var keys []string // of all four partitions that there will be
	for k := 0; len(keys) < 8; k++ {
		if key := fmt.Sprint("k", k); wire.Partition([]byte(key), 4) == int32(len(keys)%4) {
			keys = append(keys, key)
		}
	}
	want := map[string][]string{}
	n := 0
	send := func() {
		for _, key := range keys {
			text := fmt.Sprintf("%s/%d", key, n)
			b.produce(under([]byte(key), attempt(text, text), text)...)
			want[key] = append(want[key], text)
		}
		n++
	}
	send()
	b.results(8)
	b.committed()
	b.grow(requests, 2)
	b.learned(3)
	b.noted(i, requests, "it has 4")
	b.partitions = 4
	for range 10 {
		send()
	}
	b.results(80)
	for key := range want { // what was answered before is known
		text := key + "/0"
		b.produce(under([]byte(key), attempt(text, text+" again"), text)...)
	}
	b.results(8)
	s.want(t, want)
	b.wantExecuted(slices.Concat(slices.Collect(maps.Values(want))...)...)
	b.committed()
}
