package kafka_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

func TestProducerWritesRecordsAsTheyAre(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	records := []wire.Record{
		{Topic: "t", Key: []byte("k"), Value: []byte("v"), Headers: []wire.Header{
			{Name: "b", Value: []byte("1")}, {Name: "a", Value: []byte("2")}, {Name: "b", Value: []byte("3")}, {Name: "empty", Value: []byte{}}}},
		{Topic: "t", Key: []byte("k"), Value: []byte{}},
		{Topic: "t", Key: []byte("k"), Value: nil},
		{Topic: "t", Key: []byte{}, Value: []byte("empty key")},
		{Topic: "t", Key: nil, Value: []byte("null key")},
	}
	produce(t, newProducer(t, c), records...)
	got := readAll(t, c, "t", 0)
	if diff := cmp.Diff(records, got, cmpopts.IgnoreFields(wire.Record{}, "Offset", "Timestamp")); diff != "" {
		t.Error(diff)
	}
	for _, r := range got {
		if r.Timestamp.IsZero() {
			t.Errorf("offset %d has no timestamp", r.Offset)
		}
	}
}

func TestProducerKeepsOrderAndPutsKeysWhereTheContractSays(t *testing.T) {
	t.Parallel()
	const partitions, keys, each = 7, 40, 25
	_, c := start(t, map[string]int32{"t": partitions})
	var records []wire.Record
	for n := range each {
		for k := range keys {
			// The partition of the record is not what decides.
			records = append(records, wire.Record{Topic: "t", Partition: 99, Key: fmt.Appendf(nil, "key-%d", k), Value: fmt.Append(nil, n)})
		}
	}
	produce(t, newProducer(t, c), records...)

	total := 0
	next := map[string]int{}
	for p := range int32(partitions) {
		for _, r := range readAll(t, c, "t", p) {
			total++
			if want := wire.Partition(r.Key, partitions); p != want {
				t.Fatalf("key %s is in partition %d, want %d", r.Key, p, want)
			}
			if want := fmt.Sprint(next[string(r.Key)]); string(r.Value) != want {
				t.Fatalf("key %s: record %s where %s was due", r.Key, r.Value, want)
			}
			next[string(r.Key)]++
		}
	}
	if total != keys*each {
		t.Errorf("%d records, want %d", total, keys*each)
	}
}

func TestProducerSpreadsRecordsWithoutAKey(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 4})
	records := make([]wire.Record, 400)
	for i := range records {
		records[i] = wire.Record{Topic: "t", Value: []byte("v")}
	}
	produce(t, newProducer(t, c), records...)
	for p := range int32(4) {
		if len(readAll(t, c, "t", p)) == 0 {
			t.Errorf("partition %d got none of 400", p)
		}
	}
}

func TestProducerTellsTheOffset(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	p := newProducer(t, c)
	var offsets []int64 // by callbacks, which are on one goroutine
	var all sync.WaitGroup
	for range 10 {
		all.Add(1)
		p.Send(wire.Record{Topic: "t", Key: []byte("k")}, func(offset int64, err error) {
			defer all.Done()
			if err != nil {
				t.Error(err)
			}
			offsets = append(offsets, offset)
		})
	}
	all.Wait()
	if diff := cmp.Diff([]int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, offsets); diff != "" {
		t.Error(diff)
	}
}

func TestProducerRetriesInOrderAndOnce(t *testing.T) {
	t.Parallel()
	const n = 2000
	for name, fail := range map[string]func(*kfake.Cluster) (hits func() int){
		"leader moved": func(k *kfake.Cluster) func() int {
			return k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 3}).Hits
		},
		"written, but too few replicas yet": func(k *kfake.Cluster) func() int {
			return k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend, Count: 3}).Hits
		},
		"connection lost": func(k *kfake.Cluster) func() int {
			var hits atomic.Int64
			k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				k.KeepControl()
				if hits.Add(1) == 3 {
					k.DropControl()
				}
				return nil, errors.New("connection lost"), true
			})
			return func() int { return int(hits.Load()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": 1})
			p := newProducer(t, c)
			records := make([]wire.Record, n)
			for i := range records {
				records[i] = wire.Record{Topic: "t", Key: []byte("k"), Value: fmt.Append(nil, i)}
			}
			hits := fail(k.Cluster())
			produce(t, p, records...)
			if hits() != 3 {
				t.Fatalf("%d requests failed, want 3", hits())
			}
			got := readAll(t, c, "t", 0)
			if len(got) != n {
				t.Fatalf("%d records, want %d", len(got), n)
			}
			for i, r := range got {
				if string(r.Value) != fmt.Sprint(i) {
					t.Fatalf("record %s at offset %d", r.Value, i)
				}
			}
		})
	}
}

func TestProducerGoesOnAfterARecordThatFails(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	p := newProducer(t, c)
	big := wire.Record{Topic: "t", Key: []byte("k"), Value: []byte(strings.Repeat("x", kafka.DefaultMaxRecordBytes))}
	failed := make(chan error, 1)
	p.Send(big, func(_ int64, err error) { failed <- err })
	if err := <-failed; err == nil || !strings.Contains(err.Error(), `"t"`) {
		t.Errorf("too large: error %v, want one that names the topic", err)
	}
	big.Value = big.Value[:len(big.Value)-kafka.Size(wire.Record{})-len(big.Key)]
	if kafka.Size(big) != kafka.DefaultMaxRecordBytes {
		t.Fatalf("size %d, want the limit %d", kafka.Size(big), kafka.DefaultMaxRecordBytes)
	}
	produce(t, p, big, wire.Record{Topic: "t", Value: []byte("small")})
}

// The key leads to the call: it is a correlation id, or that of a row.
func TestProducerNamesTheRecordThatFails(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	p := newProducer(t, c)
	closed, err := kafka.NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		producer *kafka.Producer
		record   wire.Record
		fault    error
		want     string
	}{
		{"refused by the broker", p, wire.Record{Topic: "t", Key: []byte("k\n1")}, kerr.PolicyViolation, `topic "t", partition 0, key "k\n1": `},
		{"without a key", p, wire.Record{Topic: "t"}, kerr.PolicyViolation, `topic "t", partition 0: `},
		{"no such topic", p, wire.Record{Topic: "none", Key: []byte("k")}, nil, `topic "none", key "k": `},
		{"too large", p, wire.Record{Topic: "t", Key: []byte(strings.Repeat("k", kafka.DefaultMaxRecordBytes))}, nil, `topic "t", key "` + strings.Repeat("k", 300) + `": `},
		{"closed", closed, wire.Record{Topic: "t", Key: []byte("k")}, nil, `topic "t", key "k": `},
	} {
		if test.fault != nil {
			k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.PolicyViolation, Count: 1})
		}
		failed := make(chan error, 1)
		test.producer.Send(test.record, func(_ int64, err error) { failed <- err })
		if err := <-failed; err == nil || !strings.HasPrefix(err.Error(), "producing to "+test.want) {
			t.Errorf("%s: error %v, want one of %s", test.name, err, test.want)
		}
	}
}

func TestProducerCloseFlushes(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	p, err := kafka.NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for range 1000 {
		p.Send(wire.Record{Topic: "t", Key: []byte("k")}, func(_ int64, err error) {
			if err != nil {
				t.Error(err)
			}
			acknowledged++
		})
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if acknowledged != 1000 {
			t.Fatalf("%d acknowledged after Close, want 1000", acknowledged)
		}
	}
}

func TestProducerCloseWhileSending(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 3})
	p, err := kafka.NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	const senders = 8
	var answers [senders][]atomic.Int32
	var running, begun sync.WaitGroup
	var ok, refused atomic.Int64
	for s := range senders {
		answers[s] = make([]atomic.Int32, 100_000)
		begun.Add(1)
		running.Go(func() {
			for i := range answers[s] {
				stop := make(chan bool, 1)
				p.Send(wire.Record{Topic: "t", Key: fmt.Append(nil, s, i)}, func(_ int64, err error) {
					answers[s][i].Add(1)
					switch {
					case err == nil:
						ok.Add(1)
					case errors.Is(err, kafka.ErrProducerClosed):
						refused.Add(1)
					default:
						t.Error(err)
					}
					stop <- err != nil
				})
				if i == 0 {
					begun.Done()
				}
				select {
				case closed := <-stop:
					if closed {
						return
					}
				default: // on its way
				}
			}
		})
	}
	begun.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	running.Wait()
	if ok.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d were written, %d refused; want some of both", ok.Load(), refused.Load())
	}
	sent := int64(0)
	for s := range senders {
		for i := range answers[s] {
			switch n := answers[s][i].Load(); n {
			case 0:
			case 1:
				sent++
			default:
				t.Fatalf("a record was answered %d times", n)
			}
		}
	}
	if sent != ok.Load()+refused.Load() {
		t.Errorf("%d answered, %d written and %d refused", sent, ok.Load(), refused.Load())
	}
	written := 0
	for partition := range int32(3) {
		written += len(readAll(t, c, "t", partition))
	}
	if int64(written) != ok.Load() {
		t.Errorf("%d records on Kafka, %d acknowledged", written, ok.Load())
	}
}

func TestProducerCloseEndsWhenKafkaDoesNotAnswer(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	p, err := kafka.NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	reached, hold := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	k.Cluster().ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().KeepControl()
		if asked.Add(1) > 1 { // it is sent again on another connection
			return nil, errors.New("connection lost"), true
		}
		close(reached)
		k.Cluster().SleepControl(func() { <-hold })
		return nil, errors.New("connection lost"), true
	})
	answers := make(chan error, 2)
	p.Send(wire.Record{Topic: "t"}, func(_ int64, err error) { answers <- err })
	<-reached
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), "1 records") {
		t.Errorf("Close: %v, want how many records were not acknowledged", err)
	}
	select {
	case err := <-answers:
		if !errors.Is(err, kafka.ErrProducerClosed) {
			t.Errorf("the record ended with %v, want that the producer is closed", err)
		}
	default:
		t.Error("the record has no answer after Close")
	}
	close(hold)
	p.Send(wire.Record{Topic: "t"}, func(_ int64, err error) { answers <- err })
	if err := <-answers; !errors.Is(err, kafka.ErrProducerClosed) {
		t.Errorf("after Close: %v, want that the producer is closed", err)
	}
}

func TestProducerNamesBrokersItCannotReach(t *testing.T) {
	t.Parallel()
	address := unusedAddress(t)
	_, err := kafka.NewProducer(kafka.Cluster{Brokers: []string{address}})
	if err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v, want one that names %s", err, address)
	}
}

func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
