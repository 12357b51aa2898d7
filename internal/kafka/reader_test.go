package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

func newReader(t testing.TB, c kafka.Cluster) *kafka.Reader {
	t.Helper()
	r, err := kafka.NewReader(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// readTopic reads a topic to its end of now: the values, by partition.
func readTopic(t *testing.T, r *kafka.Reader, topic string) map[int32][]string {
	t.Helper()
	spans, err := r.Spans(topic)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int32][]string{}
	for _, s := range spans {
		if err := r.Read(within(t), topic, s, func(r wire.Record) error {
			got[r.Partition] = append(got[r.Partition], fmt.Sprintf("%d:%s", r.Offset, r.Value))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func TestReaderEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		fill func(*testing.T, *embedded.Kafka, *kgo.Client)
		want map[int32][]string
	}{
		{name: "an empty topic", fill: func(*testing.T, *embedded.Kafka, *kgo.Client) {}, want: map[int32][]string{}},
		{
			name: "records in two of three partitions",
			fill: func(t *testing.T, _ *embedded.Kafka, c *kgo.Client) { put(t, c, 0, "a", "b"); put(t, c, 2, "c") },
			want: map[int32][]string{0: {"0:a", "1:b"}, 2: {"0:c"}},
		},
		{
			name: "the first records were deleted",
			fill: func(t *testing.T, k *embedded.Kafka, c *kgo.Client) {
				put(t, c, 0, "a", "b", "c")
				if err := k.Cluster().DeleteRecords("t", 0, 2); err != nil {
					t.Fatal(err)
				}
			},
			want: map[int32][]string{0: {"2:c"}},
		},
		{
			name: "all records were deleted",
			fill: func(t *testing.T, k *embedded.Kafka, c *kgo.Client) {
				put(t, c, 0, "a", "b", "c")
				if err := k.Cluster().DeleteRecords("t", 0, 3); err != nil {
					t.Fatal(err)
				}
			},
			want: map[int32][]string{},
		},
		{
			name: "a transaction's marker is last",
			fill: func(t *testing.T, k *embedded.Kafka, c *kgo.Client) {
				put(t, c, 0, "a")
				tx := client(t, k, kgo.TransactionalID("tx"))
				if err := tx.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				put(t, tx, 0, "b")
				if err := tx.EndTransaction(within(t), kgo.TryCommit); err != nil {
					t.Fatal(err)
				}
			},
			want: map[int32][]string{0: {"0:a", "1:b"}},
		},
		{
			name: "an aborted transaction of several fetches",
			fill: func(t *testing.T, k *embedded.Kafka, _ *kgo.Client) {
				tx := client(t, k, kgo.TransactionalID("tx"), kgo.ProducerBatchCompression(kgo.NoCompression()))
				if err := tx.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					put(t, tx, 0, strings.Repeat("x", 700_000))
				}
				if err := tx.EndTransaction(within(t), kgo.TryAbort); err != nil {
					t.Fatal(err)
				}
			},
			want: map[int32][]string{},
		},
		{
			name: "several fetches",
			fill: func(t *testing.T, _ *embedded.Kafka, c *kgo.Client) {
				for n := range 5 {
					put(t, c, 0, strings.Repeat(fmt.Sprint(n), 700_000))
				}
			},
			want: map[int32][]string{0: {
				"0:" + strings.Repeat("0", 700_000), "1:" + strings.Repeat("1", 700_000), "2:" + strings.Repeat("2", 700_000),
				"3:" + strings.Repeat("3", 700_000), "4:" + strings.Repeat("4", 700_000),
			}},
		},
		{
			name: "fetching fails at first",
			fill: func(t *testing.T, k *embedded.Kafka, c *kgo.Client) {
				put(t, c, 0, "a")
				k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: 2})
			},
			want: map[int32][]string{0: {"0:a"}},
		},
		{
			name: "connections are lost at first",
			fill: func(t *testing.T, k *embedded.Kafka, c *kgo.Client) {
				put(t, c, 0, "a")
				k.Cluster().ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
					return nil, errors.New("connection lost"), true
				})
			},
			want: map[int32][]string{0: {"0:a"}},
		},
		{
			name: "compressed",
			fill: func(t *testing.T, k *embedded.Kafka, _ *kgo.Client) {
				put(t, client(t, k, kgo.ProducerBatchCompression(kgo.GzipCompression())), 0, "aaaaaaaaaaaaaaaa", "b")
			},
			want: map[int32][]string{0: {"0:aaaaaaaaaaaaaaaa", "1:b"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": 3})
			tc.fill(t, k, client(t, k))
			if diff := cmp.Diff(tc.want, readTopic(t, newReader(t, c), "t")); diff != "" {
				t.Errorf("%.2000s", diff)
			}
		})
	}
}

// Compaction leaves offsets that belong to no record: within, and as a hole between what is left.
func TestReaderEndsOnCompactedTopic(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	if err := k.Cluster().CreateTopic("t", 1, map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "1", "min.cleanable.dirty.ratio": "0", "min.compaction.lag.ms": "0",
	}); err != nil {
		t.Fatal(err)
	}
	cl := client(t, k)
	for n := range 20 {
		if err := cl.ProduceSync(within(t), &kgo.Record{Topic: "t", Key: fmt.Append(nil, n%2), Value: fmt.Append(nil, n)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	k.Cluster().Compact()
	got := readTopic(t, newReader(t, c), "t")[0]
	if len(got) == 20 {
		t.Fatal("nothing was compacted")
	}
	if last := got[len(got)-1]; last != "19:19" {
		t.Errorf("read %q, want that the last is 19", got)
	}
}

// What is produced while a span is read is not in it.
func TestReaderStopsAtTheEndOfTheSpan(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	cl := client(t, k)
	put(t, cl, 0, "a", "b", "c", "d")
	r := newReader(t, c)
	var got []string
	read := func(s kafka.Span) {
		t.Helper()
		if err := r.Read(within(t), "t", s, func(r wire.Record) error {
			put(t, cl, 0, "more")
			got = append(got, string(r.Value))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	read(kafka.Span{From: 1, To: 3})
	read(kafka.Span{From: 3, To: 4})
	read(kafka.Span{From: 4, To: 4})
	if diff := cmp.Diff([]string{"b", "c", "d"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestReaderGoesOnWhenRetentionIsFaster(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	put(t, client(t, k), 0, "a", "b", "c")
	r := newReader(t, c)
	spans, err := r.Spans("t")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Cluster().DeleteRecords("t", 0, 2); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := r.Read(within(t), "t", spans[0], func(r wire.Record) error { got = append(got, string(r.Value)); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestReaderFails(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	put(t, client(t, k), 0, "a")
	r := newReader(t, c)
	span := kafka.Span{To: 1}

	if _, err := r.Spans("missing"); err == nil || !strings.Contains(err.Error(), `"missing" does not exist`) {
		t.Errorf("a missing topic: %v", err)
	}
	stop := errors.New("stop")
	if err := r.Read(within(t), "t", span, func(wire.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of each: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Read(ended, "t", span, func(wire.Record) error { return nil }); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), `"t" partition 0 at offset 0`) {
		t.Errorf("a context that has ended: %v", err)
	}
	k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if err := r.Read(within(t), "t", span, func(wire.Record) error { return nil }); err == nil || !strings.Contains(err.Error(), "at offset 0") {
		t.Errorf("no right to read: %v", err)
	}
}

func client(t *testing.T, k *embedded.Kafka, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// put produces values to a partition of topic t.
func put(t *testing.T, c *kgo.Client, partition int32, values ...string) {
	t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: "t", Partition: partition, Value: []byte(v)})
	}
	if err := c.ProduceSync(within(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// Who needs every record of a span must learn that some are gone, before, while and after it reads.
func TestReaderOfAWholeSpan(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		deleted int64 // below this, before reading
		later   int64 // below this, at the first record
		want    []string
		fails   bool
	}{
		"all are there":          {want: []string{"b", "c", "d"}},
		"only others are gone":   {deleted: 1, want: []string{"b", "c", "d"}},
		"the first one is gone":  {deleted: 2, fails: true},
		"all are gone":           {deleted: 5, fails: true},
		"gone after they came":   {later: 5, want: []string{"b", "c", "d"}},
		"gone, and read already": {later: 2, want: []string{"b", "c", "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": 1})
			produce(t, newProducer(t, c), values("t", "a", "b", "c", "d", "e")...)
			remove := func(below int64) {
				if below > 0 {
					if err := k.Cluster().DeleteRecords("t", 0, below); err != nil {
						t.Error(err)
					}
				}
			}
			remove(tc.deleted)
			var got []string
			err := newReader(t, c).Read(within(t), "t", kafka.Span{From: 1, To: 4, Whole: true}, func(r wire.Record) error {
				if got == nil {
					remove(tc.later)
				}
				got = append(got, string(r.Value))
				return nil
			})
			if tc.fails != (err != nil) || tc.fails && !strings.Contains(err.Error(), `topic "t" partition 0 at offset 1`) {
				t.Errorf("error %v, want one: %v", err, tc.fails)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

// Where a topic is read from for a time is what the broker says, whatever it holds no more.
func TestSpansSinceATime(t *testing.T) {
	t.Parallel()
	k, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{"t": 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c := client(t, k)
	begin := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	write := func(c *kgo.Client, minute int) {
		r := &kgo.Record{Topic: "t", Value: []byte("v"), Timestamp: begin.Add(time.Duration(minute) * time.Minute)}
		if err := c.ProduceSync(within(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, minute := range []int{0, 10, 5, 20} { // the third one comes late
		write(c, minute)
	}
	tx := client(t, k, kgo.TransactionalID("tx"))
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	write(tx, 30)
	if err := tx.EndTransaction(within(t), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	write(c, 40)
	r := newReader(t, kafka.Cluster{Brokers: k.Brokers()})
	check := func(name string, at time.Time, from, before int64) {
		t.Helper()
		since, err := r.SpansSince("t", at)
		if err != nil {
			t.Fatal(err)
		}
		until, err := r.SpansBefore("t", at)
		if err != nil {
			t.Fatal(err)
		}
		if since[0].From != from || since[0].To != 7 || until[0].To != before {
			t.Errorf("%s: since is %+v, before is %+v", name, since, until)
		}
	}
	check("the beginning", begin, 0, 0)
	check("the year 1", time.Time{}, 0, 0)
	check("a place of Kafka's", time.UnixMilli(-2), 0, 0)
	check("a record", begin.Add(10*time.Minute), 1, 1)
	check("between records", begin.Add(time.Minute), 1, 1)
	check("behind what was aborted just now", begin.Add(39*time.Minute), 5, 5) // its marker
	check("the future", begin.Add(100*time.Hour), 7, 7)
	if err := k.Cluster().DeleteRecords("t", 0, 3); err != nil {
		t.Fatal(err)
	}
	check("records that are deleted", begin, 3, 3)
	check("one that is left", begin.Add(15*time.Minute), 3, 3)
}
