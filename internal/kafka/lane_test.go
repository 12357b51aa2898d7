package kafka_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// numbered are records whose keys are their numbers in all that is sent, in one partition.
func numbered(topic string, first int, sizes ...int) (records []wire.Record) {
	for i, size := range sizes {
		r := wire.Record{Topic: topic, Key: fmt.Appendf(nil, "%06d", first+i)}
		r.Value = make([]byte, size-kafka.Size(r))
		records = append(records, r)
	}
	return records
}

func wantNumbered(t *testing.T, records []wire.Record, n int) {
	t.Helper()
	if len(records) != n {
		t.Fatalf("%d records, want %d", len(records), n)
	}
	for i, r := range records {
		if got, _ := strconv.Atoi(string(r.Key)); got != i {
			t.Fatalf("record %d is in place %d", got, i)
		}
	}
}

// Records that are larger than a batch may be go a way of their own.
func TestLargeRecordsKeepTheirPlace(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	limited(t, k, "t", 20<<20)
	c.Limits = limitsOf(t, c, "t")
	var sizes []int
	for i := range 400 {
		size := 200
		switch i % 20 {
		case 3, 4, 11:
			size = kafka.DefaultMaxRecordBytes + i
		case 12:
			size = kafka.DefaultMaxRecordBytes
		}
		sizes = append(sizes, size)
	}
	produce(t, newProducer(t, c), numbered("t", 0, sizes...)...)
	wantNumbered(t, readAll(t, c, "t", 0), len(sizes))
}

// Batches are bounded by what a topic takes now, not by what it took when the first record was sent.
func TestBatchesFollowTheLimitOfTheirTopic(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	limited(t, k, "t", 1<<20)
	c.Limits = limitsOf(t, c, "t")
	topics := openTopics(t, c)
	p := newProducer(t, c)
	sent := 0
	for _, bytes := range []int{1 << 20, 2000, 1000, 5000, 1 << 20, 1000} {
		alter(t, c, "t", bytes)
		if err := c.Limits.Learn(topics, "t"); err != nil {
			t.Fatal(err)
		}
		sizes := make([]int, 300)
		for i := range sizes {
			sizes[i] = 300
		}
		sizes[100] = c.Limits.Of("t")
		var all sync.WaitGroup
		for _, r := range numbered("t", sent, sizes...) {
			all.Add(1)
			p.Send(r, func(_ int64, err error) {
				defer all.Done()
				if err != nil {
					t.Errorf("%d bytes in a topic that takes %d: %v", kafka.Size(r), bytes, err)
				}
			})
		}
		all.Wait()
		sent += len(sizes)
	}
	wantNumbered(t, readAll(t, c, "t", 0), sent)
}

// A topic that is deleted and made anew takes records again, and keys have their places among the partitions that it has now.
func TestProducerAfterATopicIsMadeAnew(t *testing.T) {
	t.Parallel()
	for before, after := range map[int32]int32{4: 4, 6: 2, 2: 6} {
		t.Run(fmt.Sprintf("%d partitions, then %d", before, after), func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": before})
			p := newProducer(t, c)
			var records []wire.Record
			for i := range 40 {
				records = append(records, wire.Record{Topic: "t", Key: fmt.Append(nil, i)})
			}
			produce(t, p, records...)
			admin := kadm.NewClient(client(t, k))
			if deleted, err := admin.DeleteTopics(within(t), "t"); err != nil || deleted.Error() != nil {
				t.Fatal(err, deleted.Error())
			}
			if _, err := admin.CreateTopic(within(t), after, 1, nil, "t"); err != nil {
				t.Fatal(err)
			}
			if after < before {
				// Whoever sends to partitions that are not there finds out that they are gone. Others would, too, within a minute.
				deadline := time.Now().Add(patience)
				for found := false; !found; {
					found = true
					for _, r := range records {
						if err := send(p, r); err != nil {
							t.Log(err)
							found = false
						}
					}
					if time.Now().After(deadline) {
						t.Fatal("keys of partitions that are not there any more are not written")
					}
				}
			}
			produce(t, p, records...)
			if after > before {
				return // new partitions are seen within a minute
			}
			for partition := range after {
				for _, r := range readAll(t, c, "t", partition) {
					if want := wire.Partition(r.Key, after); partition != want && r.Offset > int64(len(records)) {
						t.Errorf("key %s is in partition %d, want %d", r.Key, partition, want)
					}
				}
			}
		})
	}
}

// Kafka refuses whole batches. A record that is to blame for it harms no other, and those that were together too large are not to blame.
func TestRecordThatIsRefusedFailsAlone(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	produce(t, newProducer(t, c), wire.Record{Topic: "t"})
	alter(t, c, "t", 100_000) // without being told
	p := newProducer(t, c)
	hold, held := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	k.Cluster().ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		if asked.Add(1) == 1 {
			close(held)
			k.Cluster().SleepControl(func() { <-hold })
		}
		return nil, nil, false
	})
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		produce(t, p, wire.Record{Topic: "t"})
	}()
	<-held
	sizes := make([]int, 500)
	for i := range sizes {
		sizes[i] = 1000
	}
	sizes[42], sizes[43], sizes[499] = 200_000, 99_000, 300_000
	var all sync.WaitGroup
	for _, r := range numbered("t", 0, sizes...) {
		all.Add(1)
		p.Send(r, func(_ int64, err error) {
			defer all.Done()
			if large := kafka.Size(r) > 100_000; large != kafka.IsTooLarge(err) || !large && err != nil {
				t.Errorf("%d bytes: %v", kafka.Size(r), err)
			}
		})
	}
	close(hold)
	all.Wait()
	<-produced
	var got []string
	for _, r := range readAll(t, c, "t", 0)[2:] {
		got = append(got, string(r.Key))
	}
	if len(got) != len(sizes)-2 || !slices.IsSorted(got) {
		t.Errorf("%d records were written, in order: %v", len(got), slices.IsSorted(got))
	}
}
