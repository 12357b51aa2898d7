package grpcin_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/embedded"
	kafkaclient "kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// replyReader is what the program makes of a Reader of Kafka.
type replyReader struct{ *kafkaclient.Reader }

func (r replyReader) Read(ctx context.Context, topic string, partition int32, from, to int64, each func(wire.Record) error) error {
	return r.Reader.Read(ctx, topic, kafkaclient.Span{Partition: partition, From: from, To: to, Whole: true}, each)
}

// topics is a front whose records go through an embedded Kafka.
type topics struct {
	*front
	broker  *embedded.Kafka
	cluster kafkaclient.Cluster
	answers *kafkaclient.Producer // of the replier
}

// startOnKafka starts a server and a replier, which is given each request record in the order of its partition.
func startOnKafka(t *testing.T, l grpcin.Limits, answer func(topics, wire.Record)) topics {
	t.Helper()
	k, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{requests: 4, replies: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	s := topics{broker: k, cluster: kafkaclient.Cluster{Brokers: k.Brokers(), ClientID: "test"}}
	closing := func(close func() error) {
		t.Cleanup(func() {
			if err := close(); err != nil {
				t.Error(err)
			}
		})
	}
	producer := newProducer(t, s.cluster)
	s.answers = newProducer(t, s.cluster)
	reader, err := kafkaclient.NewReader(s.cluster)
	if err != nil {
		t.Fatal(err)
	}
	closing(reader.Close)
	s.front = start(t, limits(l), func(o *grpcin.Options, _ *front) {
		o.Senders = map[string]grpcin.Sender{"kafka_client": producer}
		o.Readers = map[string]grpcin.Reader{"kafka_client": replyReader{reader}}
		o.Rejected = kafkaclient.Rejected
	})
	for topic, deliver := range map[string]func(wire.Record){replies: s.calls.Deliver, requests: func(r wire.Record) { answer(s, r) }} {
		tail, err := kafkaclient.NewTail(withPatience(t), s.cluster, []string{topic}, deliver, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		closing(tail.Close)
	}
	return s
}

func newProducer(t *testing.T, c kafkaclient.Cluster) *kafkaclient.Producer {
	t.Helper()
	p, err := kafkaclient.NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// write sends reply records without waiting for Kafka.
func (s topics) write(t testing.TB, records ...wire.Record) {
	for _, r := range records {
		s.answers.Send(r, func(_ int64, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// echoing answers each message with itself, and the end with OK.
func echoing(t testing.TB) func(topics, wire.Record) {
	return func(s topics, r wire.Record) {
		request := request(t, r)
		reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
		if r.Value == nil {
			s.write(t, end(reply))
			return
		}
		s.write(t, message(reply, string(r.Value)))
	}
}

// Whatever is known to have one message is sent to Kafka at once, and not its end after its message is acknowledged. A busy machine may part
// some of them.
func TestUnaryRequestIsOneRequestToKafka(t *testing.T) {
	t.Parallel()
	s := startOnKafka(t, grpcin.Limits{}, echoing(t))
	ctx := withPatience(t)
	call := func() {
		c := s.stream(ctx, t, unary)
		c.send("v")
		c.half()
		if got := c.next(); got != "v" {
			t.Fatalf("%q came", got)
		}
		c.wants(codes.OK)
	}
	call() // it knows the topic now
	const calls = 100
	var asked atomic.Int64
	cluster := s.broker.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			if topic.Topic == requests {
				asked.Add(1)
			}
		}
		return nil, nil, false
	})
	for range calls {
		call()
	}
	if n := asked.Load(); n > calls*3/2 {
		t.Errorf("Kafka was sent %d requests for %d calls", n, calls)
	}
}

func TestThroughKafka(t *testing.T) {
	t.Parallel()
	s := startOnKafka(t, grpcin.Limits{}, echoing(t))
	ctx := withPatience(t)
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			c := s.stream(ctx, t, bidi)
			for n := range 200 {
				want := fmt.Sprint(i, " ", n)
				c.send(want)
				if got := c.next(); got != want {
					t.Errorf("%q came, want %q", got, want)
					return
				}
			}
			c.half()
			c.wants(codes.OK)
		})
		all.Go(func() {
			for n := range 50 {
				if r := s.call(ctx, unary, strconv.Itoa(n)); r.Status != codes.OK || r.Message != strconv.Itoa(n) {
					t.Errorf("%+v, want %d", r, n)
				}
			}
		})
	}
	all.Wait()
}

// The replies that a slow caller has not taken are read from Kafka, among those of others, in order, each once.
func TestSlowReaderOnKafka(t *testing.T) {
	t.Parallel()
	const messages = 1000
	written := make(chan struct{})
	s := startOnKafka(t, grpcin.Limits{Replies: 100, Readers: 1}, func(s topics, r wire.Record) {
		request := request(t, r)
		if r.Value != nil || request.FullMethod() != serverStream {
			echoing(t)(s, r)
			return
		}
		reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
		for n := range messages {
			s.write(t, message(reply, large(n)))
			if n%10 == 0 {
				s.write(t, message(wire.Reply{CorrelationID: "another", Call: "c"}, "x"))
			}
		}
		s.answers.Send(end(reply), func(_ int64, err error) {
			if err != nil {
				t.Error(err)
			}
			close(written)
		})
	})
	ctx := withPatience(t)
	slow := s.stream(ctx, t, serverStream)
	slow.send("first")
	slow.half()
	select {
	case <-written:
	case <-ctx.Done():
		t.Fatal("the replies were not written in time")
	}
	for range 20 {
		if r := s.call(ctx, unary, "quick"); r.Status != codes.OK || r.Message != "quick" {
			t.Errorf("another call: %+v", r)
		}
	}
	if held, most := s.calls.Held(), 101*(1024+128); held > most {
		t.Errorf("%d bytes are held, want at most %d", held, most)
	}
	if got := slow.next(); got != "first" {
		t.Errorf("got %q first", got)
	}
	slow.wantsLarge(messages)
}

// Partitions that are added to the reply topic are read as well: their replies find their calls.
func TestPartitionsAddedToTheReplyTopic(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var again *kafkaclient.Producer // knows the new partitions
	s := startOnKafka(t, grpcin.Limits{}, func(s topics, r wire.Record) {
		mu.Lock()
		if again != nil {
			s.answers = again
		}
		mu.Unlock()
		echoing(t)(s, r)
	})
	ctx := withPatience(t)
	open := s.stream(ctx, t, bidi)
	open.send("before")
	if got := open.next(); got != "before" {
		t.Errorf("got %q", got)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.cluster.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	add := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = replies, 8
	add.Topics = append(add.Topics, topic)
	if answer, err := add.RequestWith(ctx, client); err != nil || answer.Topics[0].ErrorCode != 0 {
		t.Fatal(answer, err)
	}
	mu.Lock()
	again = newProducer(t, s.cluster)
	mu.Unlock()
	var all sync.WaitGroup
	for i := range 40 { // enough for every partition
		all.Go(func() {
			if r := s.call(ctx, unary, "x", "idempotency-key", strconv.Itoa(i)); r.Status != codes.OK || r.Message != "x" {
				t.Errorf("%+v", r)
			}
		})
	}
	open.send("after")
	if got := open.next(); got != "after" {
		t.Errorf("the call that was open: %q", got)
	}
	open.half()
	open.wants(codes.OK)
	all.Wait()
}

func TestRecordThatIsTooLargeForKafka(t *testing.T) {
	t.Parallel()
	seen := make(chan wire.Record, 10)
	s := startOnKafka(t, grpcin.Limits{}, func(_ topics, r wire.Record) { seen <- r })
	ctx := withPatience(t)
	c := s.stream(ctx, t, bidi)
	c.send("a")
	<-seen
	c.send(string(make([]byte, 2<<20)))
	c.wants(codes.Internal)
	select {
	case r := <-seen:
		if request := request(t, r); r.Value != nil || !request.Canceled {
			t.Errorf("record %+v, want the cancel", request)
		}
	case <-ctx.Done():
		t.Error("the processor was not told")
	}
}
