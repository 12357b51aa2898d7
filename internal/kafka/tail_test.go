package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// inbox collects what a tail delivers.
type inbox struct {
	mu      sync.Mutex
	records []wire.Record
	came    chan struct{} // one token per look that is worth while
}

func newInbox() *inbox { return &inbox{came: make(chan struct{}, 1)} }

func (i *inbox) deliver(r wire.Record) {
	i.mu.Lock()
	i.records = append(i.records, r)
	i.mu.Unlock()
	select {
	case i.came <- struct{}{}:
	default:
	}
}

func (i *inbox) values() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var values []string
	for _, r := range i.records {
		values = append(values, string(r.Value))
	}
	return values
}

// wait returns when a record with that value is there.
func (i *inbox) wait(t *testing.T, value string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		for _, v := range i.values() {
			if v == value {
				return
			}
		}
		select {
		case <-i.came:
		case <-deadline.C:
			t.Fatalf("no record %q; came: %q", value, i.values())
		}
	}
}

func newTail(t *testing.T, c kafka.Cluster, deliver func(wire.Record), topics ...string) *kafka.Tail {
	t.Helper()
	tail, err := kafka.NewTail(within(t), c, topics, deliver, nil, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tail.Close(); err != nil {
			t.Error(err)
		}
	})
	return tail
}

// values makes one record per value, with the value as its key.
func values(topic string, values ...string) []wire.Record {
	var records []wire.Record
	for _, v := range values {
		records = append(records, wire.Record{Topic: topic, Key: []byte(v), Value: []byte(v)})
	}
	return records
}

func TestTailReadsFromTheEnd(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"a": 3, "b": 1})
	p := newProducer(t, c)
	produce(t, p, append(values("a", "old-1", "old-2", "old-3"), values("b", "old-4")...)...)
	in := newInbox()
	newTail(t, c, in.deliver, "a", "b", "a")
	produce(t, p, append(values("a", "1", "2", "3", "4", "5", "6"), values("b", "7")...)...)
	for n := 1; n <= 7; n++ {
		in.wait(t, fmt.Sprint(n))
	}
	if got := in.values(); len(got) != 7 {
		t.Errorf("delivered %q, want each new record once", got)
	}
}

// Where nobody waits for replies, no topic is read.
func TestTailOfNoTopics(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	asked := k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Observe: true, Count: -1})
	newTail(t, c, func(wire.Record) {})
	if asked.Hits() > 0 {
		t.Error("it has asked for the ends of topics")
	}
}

// The first fetch comes long after NewTail returned, and after the record was written.
func TestTailDeliversWhatIsProducedAfterItReturned(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 4})
	p := newProducer(t, c)
	written := make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(written) }) }
	defer release()
	k.Cluster().ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().SleepControl(func() { <-written })
		return nil, nil, false
	})
	moved := k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.NotLeaderForPartition})
	in := newInbox()
	newTail(t, c, in.deliver, "t")
	if moved.Hits() != 1 {
		t.Errorf("%d list-offsets requests failed, want 1", moved.Hits())
	}
	produce(t, p, values("t", "a", "b", "c", "d", "e", "f")...)
	release()
	for _, v := range []string{"a", "b", "c", "d", "e", "f"} {
		in.wait(t, v)
	}
}

func TestTailKeepsTheOrderOfAPartition(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	p := newProducer(t, c)
	in := newInbox()
	newTail(t, c, in.deliver, "t")
	var want []string
	for n := range 3000 {
		want = append(want, fmt.Sprint(n))
	}
	produce(t, p, values("t", want...)...)
	in.wait(t, want[len(want)-1])
	if diff := cmp.Diff(want, in.values()); diff != "" {
		t.Error(diff)
	}
}

// Whatever happens to fetching, nothing is lost and nothing comes twice.
func TestTailSurvives(t *testing.T) {
	t.Parallel()
	fault := func(code *kerr.Error) func(*kfake.Cluster) func(context.Context) error {
		return func(k *kfake.Cluster) func(context.Context) error {
			f := k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: code, Count: 3})
			return func(ctx context.Context) error { return f.Wait(ctx, 3) }
		}
	}
	for name, fail := range map[string]func(*kfake.Cluster) (wait func(context.Context) error){
		"an unknown error":      fault(kerr.UnknownServerError),
		"a leader that moved":   fault(kerr.NotLeaderForPartition),
		"an offset that is not": fault(kerr.OffsetOutOfRange),
		"connections lost": func(k *kfake.Cluster) func(context.Context) error {
			var hits atomic.Int32
			enough := make(chan struct{})
			k.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
				k.KeepControl()
				if hits.Add(1) == 3 {
					k.DropControl()
					close(enough)
				}
				return nil, errors.New("connection lost"), true
			})
			return func(ctx context.Context) error {
				select {
				case <-enough:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": 1})
			p := newProducer(t, c)
			in := newInbox()
			newTail(t, c, in.deliver, "t")
			produce(t, p, values("t", "1", "2")...)
			in.wait(t, "2")
			failed := fail(k.Cluster())
			produce(t, p, values("t", "3", "4")...)
			if err := failed(within(t)); err != nil {
				t.Fatalf("fetching did not fail: %v", err)
			}
			produce(t, p, values("t", "5")...)
			in.wait(t, "5")
			if diff := cmp.Diff([]string{"1", "2", "3", "4", "5"}, in.values()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTailGoesOnWhereRecordsAreLeft(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		damage func(*testing.T, *kfake.Cluster, *kafka.Producer)
		want   []string
	}{
		"records were deleted before they were read: the rest": {
			damage: func(t *testing.T, k *kfake.Cluster, p *kafka.Producer) {
				produce(t, p, values("t", "3", "4", "5")...)
				if err := k.DeleteRecords("t", 0, 4); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"1", "2", "5", "last"},
		},
		"the topic is a new one with less in it: what comes next": {
			damage: func(t *testing.T, k *kfake.Cluster, _ *kafka.Producer) {
				if err := errors.Join(k.DeleteTopic("t"), k.CreateTopic("t", 1, nil)); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"1", "2", "last"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": 1})
			p := newProducer(t, c)
			in := newInbox()
			newTail(t, c, in.deliver, "t")
			produce(t, p, values("t", "1", "2")...)
			in.wait(t, "2")

			broken := k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Err: kerr.OffsetOutOfRange, Count: -1})
			if err := broken.Wait(within(t), 2); err != nil {
				t.Fatal(err)
			}
			tc.damage(t, k.Cluster(), p)
			// The first two that succeed are the tail's look at what there is.
			looked := k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Observe: true, Count: -1})
			fetched := k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
			broken.Remove()
			if err := errors.Join(looked.Wait(within(t), 2), fetched.Wait(within(t), 1)); err != nil {
				t.Fatalf("the tail did not start again: %v", err)
			}
			// Not the producer from before: its sequence belongs to the old topic.
			produce(t, newProducer(t, c), values("t", "last")...)
			in.wait(t, "last")
			if diff := cmp.Diff(tc.want, in.values()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A batch that is small on the wire and huge in memory is left out, and does not end the reading of its partition.
func TestTailLeavesOutWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	in := newInbox()
	newTail(t, c, in.deliver, "t")
	const size = 2*kafka.MaxRecordBytes + 1<<20
	cl := client(t, k, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(size+1<<20), kgo.BrokerMaxWriteBytes(size+2<<20))
	put(t, cl, 0, "1")
	if err := cl.ProduceSync(within(t), &kgo.Record{Topic: "t", Value: make([]byte, size)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	put(t, cl, 0, "2")
	in.wait(t, "2")
	if diff := cmp.Diff([]string{"1", "2"}, in.values()); diff != "" {
		t.Error(diff)
	}
}

func TestTailReadsPartitionsThatAreAdded(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	in := newInbox()
	newTail(t, c, in.deliver, "t")

	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	add := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = "t", 4
	add.Topics = append(add.Topics, topic)
	if answer, err := add.RequestWith(within(t), client); err != nil || answer.Topics[0].ErrorCode != 0 {
		t.Fatal(answer, err)
	}
	p := newProducer(t, c) // one that knows the new partitions
	var want []string
	for n := range 40 {
		want = append(want, fmt.Sprint(n))
	}
	produce(t, p, values("t", want...)...)
	for _, v := range want {
		in.wait(t, v)
	}
}

// lines are those of a log; what has no room is lost.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

// An outage is one event of each topic, and not of each partition.
func TestTailTellsOfAnOutageInFewLines(t *testing.T) {
	t.Parallel()
	const partitions = 20
	k, c := start(t, map[string]int32{"t": partitions, "other": 1})
	out := make(lines, 10_000)
	ctx := within(t)
	tail, err := kafka.NewTail(ctx, c, []string{"t", "other"}, func(wire.Record) {}, nil, slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	count := map[string]int{}
	for count["DEBUG of t"] < partitions-1 || count["WARN of other"] == 0 {
		select {
		case line := <-out:
			if about := regexp.MustCompile(`level=(\w+) msg="reading fails, trying again" topic=(\w+) partition=`).FindStringSubmatch(line); about != nil {
				count[about[1]+" of "+about[2]]++
			}
		case <-ctx.Done():
			t.Fatalf("not in time: %v", count)
		}
	}
	if n := count["WARN of t"]; n == 0 || n >= partitions {
		t.Errorf("%d lines", n)
	}
	if err := tail.Close(); err != nil {
		t.Error(err)
	}
}

// What nobody can be asked for has a line, too: a topic that is gone, and then a broker.
func TestTailTellsOfWhatIsGone(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1, "other": 1})
	out := make(lines, 10_000)
	ctx := within(t)
	tail, err := kafka.NewTail(ctx, c, []string{"t", "other"}, func(wire.Record) {}, nil, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	wait := func(about string) {
		t.Helper()
		for {
			select {
			case line := <-out:
				if strings.Contains(line, "level=WARN msg=\"reading fails, trying again\" "+about) {
					return
				}
			case <-ctx.Done():
				t.Fatalf("no line about %s", about)
			}
		}
	}
	if err := k.Cluster().DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	wait("topic=t ")
	k.Close()
	wait("broker=" + c.Brokers[0])
	if err := tail.Close(); err != nil {
		t.Error(err)
	}
}

// Null and empty are different, headers keep their order and repetitions, and the time is the record's.
func TestTailDeliversRecordsAsTheyAre(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	in := newInbox()
	newTail(t, c, in.deliver, "t")
	at := time.UnixMilli(1700000000000)
	want := []wire.Record{
		{Topic: "t", Timestamp: at},
		{Topic: "t", Timestamp: at, Key: []byte{}, Value: []byte{}},
		{Topic: "t", Timestamp: at, Value: []byte("last"), Headers: []wire.Header{{Name: "b", Value: []byte("1")}, {Name: "a"}, {Name: "b", Value: []byte{}}}},
	}
	p := newProducer(t, c)
	for i := range want {
		produce(t, p, want[i]) // one after the other: without keys they have no order
		want[i].Offset = int64(i)
	}
	in.wait(t, "last")
	if diff := cmp.Diff(want, in.records); diff != "" {
		t.Error(diff)
	}
}

func TestTailStopsAtClose(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 2})
	p := newProducer(t, c)
	in := newInbox()
	tail := newTail(t, c, in.deliver, "t")
	produce(t, p, values("t", "1")...)
	in.wait(t, "1")
	for range 2 {
		if err := tail.Close(); err != nil {
			t.Fatal(err)
		}
	}
	produce(t, p, values("t", "2")...)
	if got := in.values(); len(got) != 1 {
		t.Errorf("delivered %q, want only what came before Close", got)
	}
}

func TestTailEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 2})
	ctx, cancel := context.WithCancel(t.Context())
	tail, err := kafka.NewTail(ctx, c, []string{"t"}, func(wire.Record) {}, nil, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := tail.Close(); err != nil {
		t.Error(err)
	}
	if _, err := kafka.NewTail(ctx, c, []string{"t"}, func(wire.Record) {}, nil, testLog(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v, want that it is canceled", err)
	}
}

func TestTailNamesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	_, c := start(t, nil)
	address := unusedAddress(t)
	for want, c := range map[string]kafka.Cluster{`"missing"`: c, address: {Brokers: []string{address}}} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			_, err := kafka.NewTail(within(t), c, []string{"missing"}, func(wire.Record) {}, nil, testLog(t))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one that names %s", err, want)
			}
		})
	}
}

// A tail that nobody awaits fetches nothing. What is written until somebody does is not read where its end was told, and what is written then is
// delivered in any case.
func TestTailThatNobodyAwaits(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	p := newProducer(t, c)
	var fetches atomic.Int64
	looks := make(chan struct{}, 1)
	var untold atomic.Bool
	k.Cluster().ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	k.Cluster().ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().KeepControl()
		select {
		case looks <- struct{}{}:
		default:
		}
		if untold.Load() {
			return r.ResponseKind(), nil, true
		}
		return nil, nil, false
	})
	var awaited atomic.Pointer[chan struct{}]
	nobody := func() chan struct{} {
		c := make(chan struct{})
		awaited.Store(&c)
		return c
	}
	somebody := nobody()
	in := newInbox()
	tail, err := kafka.NewTail(within(t), c, []string{"t"}, in.deliver, func() <-chan struct{} { return *awaited.Load() }, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	rests := func() {
		t.Helper()
		produce(t, p, values("t", "the last that is fetched")...)
		patience := within(t)
		for looked, fetched := -1, int64(0); looked < 3; looked++ { // times, with no fetch between them
			if n := fetches.Load(); n != fetched {
				looked, fetched = -1, n
			}
			select {
			case <-looks:
			case <-patience.Done():
				t.Fatal("it does not rest")
			}
		}
	}
	for _, call := range []string{"1", "2"} {
		rests()
		produce(t, p, values("t", "before "+call)...)
		rests()
		close(somebody)
		produce(t, p, values("t", call)...)
		in.wait(t, call)
		somebody = nobody()
	}
	rests()
	untold.Store(true)
	<-looks
	<-looks // which does not tell it
	produce(t, p, values("t", "before 3")...)
	close(somebody)
	produce(t, p, values("t", "3")...)
	in.wait(t, "3")
	untold.Store(false)
	somebody = nobody()
	rests()
	if err := errors.Join(k.Cluster().DeleteTopic("t"), k.Cluster().CreateTopic("t", 1, nil)); err != nil { // with less in it
		t.Fatal(err)
	}
	<-looks
	<-looks
	<-looks // the second one has been heard
	close(somebody)
	p = newProducer(t, c) // not the one from before: its sequence belongs to the old topic
	produce(t, p, values("t", "4")...)
	in.wait(t, "4")
	if diff := cmp.Diff([]string{"1", "2", "before 3", "3", "4"}, in.values()); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	for n := range 100 { // one soon after the other
		somebody = nobody()
		close(somebody)
		produce(t, p, values("t", fmt.Sprint("soon ", n))...)
		in.wait(t, fmt.Sprint("soon ", n))
	}
}
