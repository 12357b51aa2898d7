package kafka_test

import (
	"log/slog"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// BenchmarkTail is how fast a tail delivers replies that are there. The allocations of the broker in the process count, too: some for
// each batch, which are 100 records and more.
func BenchmarkTail(b *testing.B) {
	const (
		partitions = 8
		records    = 50_000
	)
	k, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{"t": partitions}})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	producer, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	var left atomic.Int64
	all := make(chan struct{}, 1)
	tail, err := kafka.NewTail(b.Context(), kafka.Cluster{Brokers: k.Brokers()}, []string{"t"}, func(wire.Record) {
		if left.Add(-1) == 0 {
			all <- struct{}{}
		}
	}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer tail.Close()
	headers := []kgo.RecordHeader{
		{Key: "zilla:correlation-id", Value: make([]byte, 32)}, {Key: "grpc:call", Value: make([]byte, 16)},
		{Key: "grpc:message", Value: []byte("1")}, {Key: "content-type", Value: []byte("application/grpc")},
		{Key: "zilla:service", Value: []byte("grpc.examples.echo.Echo")}, {Key: "traceparent", Value: make([]byte, 55)},
	}
	var allocated uint64
	var cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		written := make(chan struct{})
		k.Cluster().ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			k.Cluster().SleepControl(func() { <-written })
			return nil, nil, false
		})
		left.Store(records)
		for range records {
			producer.Produce(b.Context(), &kgo.Record{Topic: "t", Key: make([]byte, 16), Value: make([]byte, 100), Headers: headers}, nil)
		}
		if err := producer.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cpu -= used(b)
		b.StartTimer()
		close(written)
		<-all
		b.StopTimer()
		cpu += used(b)
		runtime.ReadMemStats(&after)
		allocated += after.Mallocs - before.Mallocs
		b.StartTimer()
	}
	delivered := float64(b.N) * records
	b.ReportMetric(delivered/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/delivered, "cpu-ns/record")
	b.ReportMetric(float64(allocated)/delivered, "allocs/record")
	b.ReportMetric(0, "ns/op") // of all of them
}

// used is the CPU time of the process, the broker's in it.
func used(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
