package processor_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// settles waits until a count has stayed the same for half a second, and answers it.
func (b *testbench) settles(count func() int64) int64 {
	b.t.Helper()
	last, same := int64(-1), 0
	b.eventually("a count that stays the same", func() bool {
		if now := count(); now != last {
			last, same = now, 0
		}
		same++
		return same > 25
	})
	return last
}

// The messages that a service does not read stay on Kafka.
func TestSlowServicePausesItsPartition(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.MaxInFlight = 10 })
	b.started()
	open := make(chan struct{})
	b.service.serves(func(stream grpc.ServerStream) error {
		select {
		case <-open:
			return echoAll(stream)
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	})
	r := bidi("k", "a")
	var messages []string
	for n := range 40 {
		messages = append(messages, fmt.Sprint(n)+strings.Repeat(" ", 60_000))
	}
	b.produce(whole(r, messages...)...)
	b.service.wait(t, 1)
	b.send(attempt("behind", "behind"), "behind")
	if got := b.settles(func() int64 { return int64(len(b.service.received())) }); got != 1 {
		t.Errorf("the service got %d calls: the partition was read on", got)
	}
	close(open)
	got := b.results(2)
	got["a"].check(t, codes.OK, "", messages...)
	got["behind"].check(t, codes.OK, "", "behind")
	b.committed()
}

// The message of a reply and its end leave at once, and not the end after the message is acknowledged. A busy machine may part some of them.
func TestUnaryReplyIsOneRequestToKafka(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.call(attempt("first", "1"), "v").check(t, codes.OK, "", "v")
	const calls = 100
	var asked atomic.Int64
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if slices.ContainsFunc(request.(*kmsg.ProduceRequest).Topics, func(topic kmsg.ProduceRequestTopic) bool { return topic.Topic == replies }) {
			asked.Add(1)
		}
		return nil, nil, false
	})
	for n := range calls {
		b.call(attempt(fmt.Sprint(n), "1"), "v").check(t, codes.OK, "", "v")
	}
	if n := asked.Load(); n > calls*3/2 {
		t.Errorf("Kafka was sent %d requests for %d replies", n, calls)
	}
}

// What Kafka does not take is not read from the service.
func TestSlowKafkaSlowsTheService(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.quiet = true
	b.started()
	const n = 400
	var sent atomic.Int64
	b.service.serves(func(stream grpc.ServerStream) error {
		for i := range n {
			if err := stream.SendMsg(bytesOf(fmt.Sprint(i) + strings.Repeat(" ", 10_000))); err != nil {
				return err
			}
			sent.Store(int64(i + 1))
		}
		return nil
	})
	release := make(chan struct{})
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if slices.ContainsFunc(request.(*kmsg.ProduceRequest).Topics, func(topic kmsg.ProduceRequestTopic) bool { return topic.Topic == replies }) {
			cluster.SleepControl(func() { <-release })
		}
		return nil, nil, false
	})
	b.produce(whole(streaming("Server", "k", "a"), "go")...)
	b.service.wait(t, 1)
	b.eventually("a message", func() bool { return sent.Load() > 0 })
	if got := b.settles(sent.Load); got > n/2 {
		t.Errorf("the service sent %d of %d messages while Kafka took none", got, n)
	}
	close(release)
	got := b.results(1)["a"]
	if got.Status != codes.OK || len(got.messages) != n {
		t.Fatalf("%v %s, %d messages", got.Status, got.Message, len(got.messages))
	}
	for i, m := range got.messages {
		if strings.TrimSpace(m) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, strings.TrimSpace(m))
		}
	}
	b.committed()
}

// A stream that stays open keeps the offsets behind it from being committed, and only so many are read ahead.
func TestStreamThatBlocksItsPartitionIsEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.StreamIdle = time.Hour })
	b.ahead = 20
	i := b.started()
	r := bidi("k", "a")
	b.produce(message(r, "1"))
	b.reply(r, "1")
	const n = 30
	for i := range n {
		key := fmt.Sprint(i)
		b.produce(message(attempt(key, key), key))
	}
	got := b.results(n + 1)
	got["a"].check(t, codes.ResourceExhausted, "end streams sooner")
	for i := range n {
		got[fmt.Sprint(i)].check(t, codes.OK, "", fmt.Sprint(i))
	}
	b.produce(message(r, "2"), end(r)) // nobody takes them for a stream of their own
	b.committed()
	if got := len(b.answers()["a"]); got != 1 {
		t.Errorf("%d answers", got)
	}
	if row, err := i.Row(r.CorrelationID); err != nil || row.State != rowpb.State_STATE_FINAL {
		t.Errorf("the row is %v, %v", row, err)
	}
}

// Streams that go on need room for their further records, so they may not take all there is.
func TestTooManyOpenStreamsAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.MaxInFlight = 6 })
	i := b.started()
	open := func(n int) wire.Request { return bidi(fmt.Sprint("k", n), fmt.Sprint("call ", n)) }
	for n := range 3 {
		b.produce(message(open(n), "1"))
		b.reply(open(n), "1")
	}
	b.produce(message(open(3), "1"))
	b.results(1)["call 3"].check(t, codes.ResourceExhausted, "too many streams are open")
	if row, err := i.Row(open(3).CorrelationID); row != nil || err != nil {
		t.Errorf("the row is %v, %v, want none", row, err)
	}
	b.produce(message(open(3), "2"), end(open(3)))
	for n := range 3 {
		b.produce(message(open(n), "2"), end(open(n)))
		b.results(1)[open(n).Call].check(t, codes.OK, "", "2")
	}
	b.produce(whole(bidi("k3", "again"), "1", "2")...)
	b.results(1)["again"].check(t, codes.OK, "", "1", "2")
	b.committed()
}

// The reply topic of a stream may go while it is open: what is lost of the reply makes its request a dead letter.
func TestStreamWhoseReplyTopicIsDeleted(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, twoRoutes)
	for _, topic := range []string{"other-requests", "other-replies"} {
		if err := b.kafka.Cluster().CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.started()
	ended := make(chan struct{})
	b.service.serves(func(stream grpc.ServerStream) error {
		defer close(ended)
		return echoAll(stream)
	})
	r := bidi("k", "a")
	r.ReplyTo = "other-replies"
	b.produceTo("other-requests", 0, message(r, "1"))
	b.eventually("the first reply message", func() bool {
		return len(b.log(r.ReplyTo)) == 1
	})
	if _, err := b.admin.DeleteTopics(t.Context(), r.ReplyTo); err != nil {
		t.Fatal(err)
	}
	b.produceTo("other-requests", 0, message(r, "2"))
	letter, reason := b.letter()
	again := b.remote.Processing.ExactlyOnce() // the processor has begun anew, and with it the request: it is answered as after a crash, on no topic
	want := "a reply message could not be written to topic other-replies"
	if again {
		want = "the reply could not be written to topic other-replies"
	}
	if string(letter.Value) != "1" || !strings.Contains(reason, want) {
		t.Errorf("the letter is %q, %s", letter.Value, reason)
	}
	if !again && !partial(letter) {
		t.Errorf("the letter does not say that it is a part of its request: %v", describe([]wire.Record{letter}))
	}
	<-ended
	b.produceTo("other-requests", 0, end(r))
	b.call(attempt("k", "b"), "x").check(t, codes.OK, "", "x")
}

// A route may want more of a record than its method: also of one that is re-keyed first.
func TestRouteByKeyAndHeaders(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, func(r *topology.Remote) {
		r.Routes[0].Key = []byte("gold")
		r.Routes[0].Headers = append(r.Routes[0].Headers, header("region", "eu"))
	})
	b.started()
	tests := []struct {
		name, key, region string
		status            codes.Code
	}{
		{"both", "gold", "eu", codes.OK},
		{"another key", "silver", "eu", codes.Unimplemented},
		{"another header", "gold", "us", codes.Unimplemented},
	}
	for _, test := range tests {
		record := message(foreign(test.name), "x")
		record.Key = []byte(test.key)
		record.Headers = append(record.Headers, header("region", test.region))
		b.produce(record)
		if got := b.results(1)[test.name]; got.Status != test.status {
			t.Errorf("%s: %v %s, want %v", test.name, got.Status, got.Message, test.status)
		}
	}
	b.committed()
	b.wantExecuted("x")
}

// BenchmarkStream is one bidirectional stream: an operation is a message from its topic through the service to the reply topic.
func BenchmarkStream(b *testing.B) {
	t := newBench(b, 8)
	t.quiet = true
	t.started()
	r := bidi("k", "a")
	t.produce(message(r, "hello"))
	t.reply(r, "hello")
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan struct{})
	window := make(chan struct{}, 500)
	go func() {
		defer close(done)
		for n := 0; n < b.N; {
			fetches := t.client.PollFetches(b.Context())
			for range fetches.NumRecords() {
				<-window
				n++
			}
			if b.Context().Err() != nil {
				return
			}
		}
	}()
	for range b.N {
		window <- struct{}{}
		t.produceAsync(b.Context(), message(r, "hello"))
	}
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	t.produce(end(r))
	t.results(1)
}
