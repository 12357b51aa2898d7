package processor_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// request is a request as a north server would write it, to be changed by the test.
func request(key string) wire.Request {
	c := wire.DefaultContract()
	return wire.Request{
		Service: service, Method: "UnaryEcho", ReplyTo: replies,
		CorrelationID: c.ScopeID(key, service, "UnaryEcho", replies, nil),
		Metadata:      wire.Metadata{{Name: "idempotency-key", Value: key}},
	}
}

// attempt is a further attempt for a key.
func attempt(key, call string) wire.Request {
	r := request(key)
	r.Call = call
	return r
}

// foreign is a request of a producer that knows nothing of attempts or idempotency keys.
func foreign(correlationID string) wire.Request {
	return wire.Request{Service: service, Method: "UnaryEcho", ReplyTo: replies, CorrelationID: correlationID}
}

// message is the record of one message of a request, end that of its half-close. Both are under the correlation id.
func message(r wire.Request, text string) wire.Record {
	record := end(r)
	record.Value = []byte(text)
	return record
}

func end(r wire.Request) wire.Record {
	return wire.Record{Key: []byte(r.CorrelationID), Headers: wire.DefaultContract().EncodeRequest(r, nil)}
}

// send writes a message and its half-close.
func (b *testbench) send(r wire.Request, text string) {
	b.t.Helper()
	b.produce(message(r, text), end(r))
}

// call sends a request and waits for the next result, which must be its own.
func (b *testbench) call(r wire.Request, text string) result {
	b.t.Helper()
	b.send(r, text)
	id := r.Call
	if id == "" {
		id = r.CorrelationID
	}
	got, ok := b.results(1)[id]
	if !ok {
		b.t.Fatalf("another attempt than %s was answered", id)
	}
	return got
}

// produce writes records to the request topic, each to its key's partition.
func (b *testbench) produce(records ...wire.Record) []wire.Record {
	b.t.Helper()
	return b.produceTo(requests, -1, records...)
}

// produceTo writes records to a partition, or to that of their key for -1, and answers where they are.
func (b *testbench) produceTo(topic string, partition int32, records ...wire.Record) []wire.Record {
	b.t.Helper()
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		out[i] = &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Partition: partition, Timestamp: r.Timestamp}
		if partition < 0 {
			out[i].Partition = wire.Partition(r.Key, b.partitions)
		}
		for _, h := range r.Headers {
			out[i].Headers = append(out[i].Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.client.ProduceSync(ctx, out...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
	written := make([]wire.Record, len(out))
	for i, k := range out {
		written[i] = recordOf(k)
	}
	return written
}

func recordOf(k *kgo.Record) wire.Record {
	r := wire.Record{Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Key: k.Key, Value: k.Value, Timestamp: k.Timestamp}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, wire.Header{Name: h.Key, Value: h.Value})
	}
	return r
}

// read answers the next n records of the reply and dead-letter topics.
func (b *testbench) read(n int) []wire.Record {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out []wire.Record
	for len(out) < n {
		fetches := b.client.PollRecords(ctx, n-len(out))
		if ctx.Err() != nil {
			b.t.Fatalf("got %d records of %d: %v", len(out), n, describe(out))
		}
		fetches.EachRecord(func(k *kgo.Record) { out = append(out, recordOf(k)) })
	}
	return out
}

// log is all that a topic holds of what is committed, in the order of each partition.
func (b *testbench) log(topic string) []wire.Record {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := b.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		b.t.Fatal(err)
	}
	starts, err := b.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		b.t.Fatal(err)
	}
	last := map[int32]int64{} // that is still to come, of each partition; others may be compacted away
	from := map[string]map[int32]kgo.Offset{topic: {}}
	ends.Each(func(o kadm.ListedOffset) {
		if start, _ := starts.Lookup(topic, o.Partition); o.Offset == start.Offset {
			return
		}
		last[o.Partition] = o.Offset - 1
		from[topic][o.Partition] = kgo.NewOffset().AtStart()
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.ConsumePartitions(from), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	var out []wire.Record
	for len(last) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			b.t.Fatalf("%s: got %d records, and not those at %v", topic, len(out), last)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			if !k.Attrs.IsControl() {
				out = append(out, recordOf(k))
			}
			if end, ok := last[k.Partition]; ok && k.Offset >= end { // above, where what is there was aborted meanwhile
				delete(last, k.Partition)
			}
		})
	}
	slices.SortStableFunc(out, func(a, b wire.Record) int { return int(a.Partition - b.Partition) })
	return out
}

// result is a call's reply, put together from its records.
type result struct {
	wire.Reply
	messages []string
}

// check compares what a caller sees of a result: a status, what its message contains, and the reply messages.
func (r result) check(t testing.TB, status codes.Code, contains string, messages ...string) {
	t.Helper()
	if r.Status != status || !bytes.Contains([]byte(r.Message), []byte(contains)) || !slices.Equal(r.messages, messages) {
		t.Errorf("%s %s: got %v %q %q, want %v %q %q", r.CorrelationID, r.Call, r.Status, r.Message, r.messages, status, contains, messages)
	}
}

// same compares two results in all that does not name the attempt.
func (r result) same(t testing.TB, other result) {
	t.Helper()
	if d := cmp.Diff(r, other, cmp.AllowUnexported(result{}), cmpopts.IgnoreFields(wire.Reply{}, "Call", "CorrelationID")); d != "" {
		t.Errorf("attempts %q and %q got different results: %s", r.Call, other.Call, d)
	}
}

// collector puts results together, as a reader does who sees what a crash has left behind: attempts are told apart by
// grpc:call, else by the correlation id, and each of their messages is taken once.
type collector struct {
	t     testing.TB
	open  map[string]result
	ended map[string]bool // once
	whole bool            // all of the topic is given to it
}

func newCollector(t testing.TB) collector {
	return collector{t: t, open: map[string]result{}, ended: map[string]bool{}}
}

// add takes a reply record, and answers the result that it ends.
func (c collector) add(r wire.Record) (id string, done result, ok bool) {
	c.t.Helper()
	if r.Topic != replies {
		c.t.Fatalf("an unexpected record: %v", describe([]wire.Record{r}))
	}
	reply, err := wire.DefaultContract().DecodeReply(r.Headers)
	if err != nil {
		c.t.Fatal(err)
	}
	if string(r.Key) != reply.CorrelationID {
		c.t.Errorf("a reply to %s has the key %q", reply.CorrelationID, r.Key)
	}
	if id = reply.Call; id == "" {
		id = reply.CorrelationID
	}
	o := c.open[id]
	order := reply.Number.After(len(o.messages))
	// A reply that lacks a message is none: the processor, to which Kafka has refused it, writes it again. But the test may have
	// read messages by itself, and an end may come again without its messages.
	torn := order > 0 && c.whole && !c.ended[id]
	if r.Value != nil {
		if order < 0 || torn {
			return id, result{}, false
		}
		o.Metadata = reply.Metadata
		o.messages = append(o.messages, string(r.Value))
		c.open[id] = o
		return id, result{}, false
	}
	delete(c.open, id)
	if torn {
		return id, result{}, false
	}
	c.ended[id], reply.Number = true, 0
	if reply.Metadata == nil {
		reply.Metadata = o.Metadata
	}
	return id, result{reply, o.messages}, true
}

// results reads until each of n attempts has its terminal record.
func (b *testbench) results(n int) map[string]result {
	b.t.Helper()
	c := newCollector(b.t)
	out := map[string]result{}
	for len(out) < n {
		id, done, ok := c.add(b.read(1)[0])
		if !ok {
			continue
		}
		if _, twice := out[id]; twice {
			b.t.Errorf("%s was answered twice", id)
		}
		out[id] = done
	}
	return out
}

// soon is a deadline that passes, but not before its request has come as far as it can: a busy machine takes seconds for that.
func soon() time.Time { return time.Now().Add(3 * time.Second) }

// answers are all results that the reply topic holds, each attempt's in order, once all requests are done.
func (b *testbench) answers() map[string][]result {
	b.t.Helper()
	out, open := b.answersSoFar()
	for id := range open {
		b.t.Errorf("the reply to %s has no end", id)
	}
	return out
}

// answersTo are those once so many attempts have theirs. Of one that waits in a row the request is done before.
func (b *testbench) answersTo(attempts int) (out map[string][]result) {
	b.t.Helper()
	b.eventually("all are answered", func() bool {
		var open map[string]result
		out, open = b.answersSoFar()
		return len(out) == attempts && len(open) == 0
	})
	return out
}

// answersSoFar are the results, and those that have begun, once all requests are done.
func (b *testbench) answersSoFar() (out map[string][]result, open map[string]result) {
	b.t.Helper()
	b.committed()
	c := newCollector(b.t)
	c.whole = true
	out = map[string][]result{}
	for _, r := range b.log(replies) {
		if id, done, ok := c.add(r); ok {
			out[id] = append(out[id], done)
		}
	}
	return out, c.open
}

// only is the one result of an attempt.
func only(t testing.TB, answers map[string][]result, id string) result {
	t.Helper()
	if len(answers[id]) != 1 {
		t.Fatalf("%q has %d answers: %+v", id, len(answers[id]), answers[id])
	}
	return answers[id][0]
}

// executed are the messages of the calls that the service got, sorted.
func (s *fakeService) executed() []string {
	var out []string
	for _, c := range s.received() {
		out = append(out, c.message)
	}
	slices.Sort(out)
	return out
}

// wantExecuted fails unless the service got exactly these messages.
func (b *testbench) wantExecuted(messages ...string) {
	b.t.Helper()
	slices.Sort(messages)
	if got := b.service.executed(); !slices.Equal(got, messages) {
		b.t.Errorf("the service executed %q, want %q", got, messages)
	}
}

func describe(records []wire.Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, fmt.Sprintf("%s/%d key %q value %q headers %q", r.Topic, r.Partition, r.Key, r.Value, r.Headers))
	}
	return out
}
