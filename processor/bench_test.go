package processor_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// BenchmarkProcess is the way of a request from its topic through the group and the service to its reply, on the embedded
// Kafka in the same process. One operation is one request with an idempotency key of its own. cpu-us/op is of both, and of the service and the load.
func BenchmarkProcess(b *testing.B) {
	b.Run("one in flight", func(b *testing.B) { benchmarkProcess(b, load{inFlight: 1}) })
	b.Run("2000 in flight", func(b *testing.B) { benchmarkProcess(b, load{inFlight: 2000}) })
	// In order, what waits for each other is of one record key. Its turns must not cost what the calls do.
	b.Run("2000 in flight of 10000 keys in order", func(b *testing.B) {
		benchmarkProcess(b, load{inFlight: 2000, order: topology.OrderKey, keys: 10_000})
	})
	// One key is bound by the service alone: busy is the part of the time in which the service had its call.
	b.Run("2000 in flight of one key in order", func(b *testing.B) {
		benchmarkProcess(b, load{inFlight: 2000, order: topology.OrderKey, keys: 1, latency: 5 * time.Millisecond})
	})
}

// load is what a benchmark asks for.
type load struct {
	inFlight int
	order    string
	keys     int           // of records, of an order
	latency  time.Duration // of the service
}

func benchmarkProcess(b *testing.B, l load) {
	t := newBench(b, 8, ordered(l.order))
	t.quiet = true
	var busy atomic.Int64
	if l.latency > 0 {
		t.service.answers(func(ctx context.Context, call received) ([]byte, error) {
			began := time.Now()
			select {
			case <-time.After(l.latency):
			case <-ctx.Done():
			}
			busy.Add(int64(time.Since(began)))
			return []byte(call.message), ctx.Err()
		})
	}
	t.started()
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	window := make(chan struct{}, l.inFlight)
	done := make(chan struct{})
	random := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	go func() {
		defer close(done)
		for answered := 0; answered < b.N && ctx.Err() == nil; {
			fetches := t.client.PollFetches(ctx)
			fetches.EachRecord(func(k *kgo.Record) {
				if k.Value == nil {
					answered++
					<-window
				}
			})
		}
	}()
	for i := range b.N {
		window <- struct{}{}
		r := attempt(fmt.Sprint("key ", i), fmt.Sprint("call ", i))
		key := []byte(r.CorrelationID)
		if l.order != "" {
			key = fmt.Append(nil, "line ", random.IntN(l.keys))
		}
		for _, record := range under(key, r, "hello") {
			t.produceAsync(ctx, record)
		}
	}
	<-done
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(n/b.Elapsed().Seconds(), "requests/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/n, "cpu-us/op")
	if l.latency > 0 {
		b.ReportMetric(float64(busy.Load())/float64(b.Elapsed()), "busy")
	}
}

// cpuTime is what this process has had of all cores.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// produceAsync writes a record to the request topic without waiting for it.
func (b *testbench) produceAsync(ctx context.Context, record wire.Record) {
	k := &kgo.Record{Topic: requests, Key: record.Key, Value: record.Value, Partition: wire.Partition(record.Key, b.partitions)}
	for _, h := range record.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	b.client.Produce(ctx, k, func(_ *kgo.Record, err error) {
		if err != nil && ctx.Err() == nil {
			b.t.Error(err)
		}
	})
}
