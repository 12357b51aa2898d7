package kafka_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// BenchmarkReader reads a million records, a partition of a tenth of them again and again. The broker in the process counts, too: little, as its batches
// are of 100 records and more.
func BenchmarkReader(b *testing.B) {
	const (
		held  = 100_000
		reads = 10
	)
	k, c := start(b, map[string]int32{"t": 1})
	producer, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	headers := []kgo.RecordHeader{{Key: "grpc:call", Value: make([]byte, 16)}, {Key: "content-type", Value: []byte("application/grpc")}}
	for range held {
		producer.Produce(b.Context(), &kgo.Record{Topic: "t", Key: make([]byte, 16), Value: make([]byte, 100), Headers: headers}, nil)
	}
	if err := producer.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	r := newReader(b, c)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := -used(b)
	for b.Loop() {
		n := 0
		for range reads {
			if err := r.Read(b.Context(), "t", kafka.Span{To: held}, func(wire.Record) error { n++; return nil }); err != nil {
				b.Fatal(err)
			}
		}
		if n != held*reads {
			b.Fatalf("read %d records", n)
		}
	}
	cpu += used(b)
	runtime.ReadMemStats(&after)
	read := float64(b.N) * held * reads
	b.ReportMetric(read/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/read, "cpu-ns/record")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/read, "allocs/record")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/read, "B/record")
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(time.Millisecond), "ms/million")
	b.ReportMetric(0, "ns/op")
}
