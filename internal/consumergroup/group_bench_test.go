package consumergroup_test

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

// One operation is one record through the group. Each is held, finished on another goroutine and injected.
func BenchmarkRecords(b *testing.B) {
	for _, bench := range []struct {
		name string
		hold bool

		committed func(map[string][]int32) (*sarama.OffsetFetchResponse, error)
	}{
		{"hold and inject", true, nil},
		{"finished in the callback", false, nil},
		{"hold and inject, with metadata", true, (&memory{}).options().Committed},
	} {
		b.Run(bench.name, func(b *testing.B) {
			broker := newBroker()
			group := consumergroup.New(consumergroup.Options{
				Log: slog.New(slog.DiscardHandler), EndWhenFrozen: true, Committed: bench.committed,
			}).Wrap(broker)
			calls := make(chan *consumergroup.Hold, 1000)
			last := int64(b.N - 1)
			finished := make(chan struct{})
			handler := &processor{codec: group.Codec(), callback: func(c *callback) {
				switch {
				case c.Record == nil:
					if c.Payload == last {
						close(finished)
					}
				case bench.hold:
					calls <- c.Hold()
				case c.Record.Offset == last:
					close(finished)
				}
			}}
			var background sync.WaitGroup
			background.Go(func() {
				var i int64
				for h := range calls {
					h.Inject("", i)
					i++
				}
			})
			background.Go(func() { _ = group.Consume(b.Context(), []string{requests.topic}, handler) })
			s := broker.assign(requests)

			b.ReportAllocs()
			b.ResetTimer()
			for offset := range int64(b.N) {
				s.claims[requests].log <- wire.Record{Topic: requests.topic, Offset: offset}
			}
			<-finished
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(b.N)/float64(handler.batches.Load()), "records/callback")
			_ = broker.Close()
			close(calls)
			background.Wait()
		})
	}
}
