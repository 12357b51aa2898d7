package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
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
				var all sync.WaitGroup
				left := make(chan struct{}, total)
				ctx, cancel := context.WithCancel(b.Context())
				begun := time.Now()
				for range callers {
					r := dial(b, plainAddress).reader(md...)
					r.open()
					all.Go(func() {
						for ctx.Err() == nil {
							var m []byte
							if r.stream.RecvMsg(&m) != nil {
								return
							}
							select {
							case left <- struct{}{}:
							default: // it came again
							}
						}
					})
					defer r.cancel()
				}
				for len(left) < total && time.Since(begun) < 5*patience {
					time.Sleep(time.Millisecond)
				}
				rate := float64(len(left)) / time.Since(begun).Seconds()
				if len(left) < total {
					b.Errorf("%d of %d messages", len(left), total)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(rate, "messages/s")
				b.ReportMetric(rate/plain, "x-consumer")
				b.ReportMetric(p.memory("VmHWM:")-idle, "MiB-more")
				cancel()
			})
		}
	}
	// Those that wait at the end of the topic.
	for _, waiting := range []int{100} {
		b.Run("waiting="+strconv.Itoa(waiting), func(b *testing.B) {
			p := w.fanout()
			defer p.kill()
			idle := p.memory("VmRSS:")
			client := dial(b, plainAddress)
			for range waiting {
				r := client.reader()
				r.last = base64Ends(partitions, messages/partitions)
				r.open()
				if _, err := r.stream.Header(); err != nil {
					b.Fatal(err)
				}
				defer r.cancel()
			}
			time.Sleep(3 * time.Second)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(p.memory("VmRSS:")-idle, "MiB-more")
		})
	}
}

// base64Ends is the position behind all messages.
func base64Ends(partitions int32, end int64) string {
	next := map[int32]int64{}
	for id := range partitions {
		next[id] = end
	}
	return wire.EncodeProgressText(next)
}
