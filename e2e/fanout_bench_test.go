package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// BenchmarkFanout measures calls that read a topic of messages of 1 KiB on 8 partitions: one of them, ten at once, and ten that share it; beside
// a plain consumer of Kafka. It measures each once, whatever b.N is. docs/performance.md explains it.
func BenchmarkFanout(b *testing.B) {
	const partitions, messages = 8, 200_000
	w := newFanout(b, partitions, nil)
	client := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	large := message(strings.Repeat("x", 1<<10))
	for i := range messages {
		client.Produce(b.Context(), &kgo.Record{Topic: fanoutTopic, Partition: int32(i % partitions), Value: large}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := client.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	consume := func() {
		c := w.client(kgo.ConsumeTopics(fanoutTopic))
		defer c.Close()
		for n := 0; n < messages; {
			fetches := c.PollFetches(b.Context())
			if err := fetches.Err(); err != nil {
				b.Fatal(err)
			}
			n += fetches.NumRecords()
		}
	}
	consume() // for the broker to have it in memory
	begun := time.Now()
	consume()
	plain := messages / time.Since(begun).Seconds()

	for _, callers := range []int{1, 10} {
		for _, shared := range []bool{false, true} {
			if callers == 1 && shared {
				continue
			}
			name := fmt.Sprintf("callers=%d", callers)
			var md []string
			if shared {
				name, md = name+"/shared", []string{"fetch-group", "bench"}
			}
			b.Run(name, func(b *testing.B) {
				p := w.fanout()
				defer p.kill()
				idle := p.memory("VmRSS:")
				total := callers * messages
				if shared {
					total = messages
				}
				var read atomic.Int64
				done := make(chan struct{})
				begun := time.Now()
				for range callers {
					r := dial(b, plainAddress).reader(md...)
					r.open()
					go func() {
						for {
							var m []byte
							if r.stream.RecvMsg(&m) != nil { // at the latest when it is canceled
								return
							}
							if read.Add(1) == int64(total) {
								close(done)
							}
						}
					}()
					defer r.cancel()
				}
				select {
				case <-done:
				case <-time.After(5 * patience):
					b.Fatalf("%d of %d messages", read.Load(), total)
				}
				rate := float64(total) / time.Since(begun).Seconds()
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(rate, "messages/s")
				b.ReportMetric(rate/plain, "x-consumer")
				b.ReportMetric(p.memory("VmHWM:")-idle, "MiB-more")
			})
		}
	}
	// Those that wait at the end of the topic.
	b.Run("waiting=100", func(b *testing.B) {
		p := w.fanout()
		defer p.kill()
		idle := p.memory("VmRSS:")
		client := dial(b, plainAddress)
		ends := map[int32]int64{}
		for id := range int32(partitions) {
			ends[id] = messages / partitions
		}
		var waiting []*fanoutReader
		for range 100 {
			r := client.reader()
			r.last = wire.EncodeProgressText(ends)
			r.open()
			defer r.cancel()
			waiting = append(waiting, r)
		}
		w.publisher().publish(0, 1, 1)
		for _, r := range waiting {
			r.read(1)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(p.memory("VmRSS:")-idle, "MiB-more")
	})
}
