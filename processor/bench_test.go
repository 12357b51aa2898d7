package processor_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// BenchmarkProcess is the way of a request from its topic through the group and the service to its reply, on the embedded
// Kafka in the same process. One operation is one request with a key of its own.
func BenchmarkProcess(b *testing.B) {
	b.Run("one in flight", func(b *testing.B) { benchmarkProcess(b, 1) })
	b.Run("2000 in flight", func(b *testing.B) { benchmarkProcess(b, 2000) })
}

func benchmarkProcess(b *testing.B, inFlight int) {
	t := newBench(b, 8)
	t.quiet = true
	t.started()
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	window := make(chan struct{}, inFlight)
	done := make(chan struct{})
	b.ReportAllocs()
	b.ResetTimer()
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
		for _, record := range []wire.Record{message(r, "hello"), end(r)} {
			t.produceAsync(ctx, record)
		}
	}
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
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
