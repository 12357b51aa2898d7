package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/embedded"
)

// BenchmarkTracing compares the throughput of 64 callers without tracing, with 1 % of the traces sampled and with all of
// them, on the embedded Kafka. The ways take turns, and everything, the collector too, shares the machine.
func BenchmarkTracing(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	ways := []struct {
		name string
		env  map[string]string
	}{
		{"off", map[string]string{"OTEL_TRACES_EXPORTER": "none"}},
		{"1%", map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}},
		{"100%", map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "parentbased_always_on"}},
	}
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	b.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	b.Setenv("OTEL_METRICS_EXPORTER", "none")
	const rounds = 3
	rates, cpus, allocs := make([][]float64, len(ways)), make([][]float64, len(ways)), make([][]float64, len(ways))
	for range max(rounds, b.N) {
		for i, way := range ways {
			for name, value := range way.env {
				b.Setenv(name, value)
			}
			l := load(b, app.Config{})
			rates[i], cpus[i], allocs[i] = append(rates[i], l.rate), append(cpus[i], l.cpu.Seconds()), append(allocs[i], l.allocs)
		}
	}
	median := func(rates []float64) float64 {
		slices.Sort(rates)
		return rates[len(rates)/2]
	}
	off, cpu := median(rates[0]), median(cpus[0])
	b.ReportMetric(off, "calls/s-off")
	b.ReportMetric(median(allocs[0]), "allocs-off")
	for i, way := range ways[1:] {
		b.ReportMetric(median(rates[i+1])/off, "of-off-at-"+way.name)
		b.ReportMetric(median(cpus[i+1])/cpu, "cpu-of-off-at-"+way.name)
		b.ReportMetric(median(allocs[i+1]), "allocs-at-"+way.name)
	}
	b.ReportMetric(0, "ns/op") // it means nothing here
}

// loaded is how many calls a second 64 callers made, and what one took of the process: CPU time, and how many pieces of memory.
type loaded struct {
	rate, allocs float64
	cpu          time.Duration
}

// load makes calls for some seconds.
func load(b *testing.B, c app.Config) loaded {
	b.Helper()
	dir := b.TempDir()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	echo, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	t, err := demoTopology(dir, broker, echo.Addr())
	if err != nil {
		b.Fatal(err)
	}
	for i := range t.Listeners {
		t.Listeners[i].Port = 0 // whoever else runs here wants the seed's
	}
	c.Topology, c.StateDir, c.CreateTopics, c.Log = t, filepath.Join(dir, "state"), 4, slog.New(slog.DiscardHandler)
	a, err := app.Start(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	if err := a.WaitReady(b.Context()); err != nil {
		b.Fatal(err)
	}
	client := grpcout.New(grpcout.Options{})
	target := grpcout.Target{Scheme: "http", Address: a.Addrs()[0].String()}
	var calls atomic.Int64
	run := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		defer cancel()
		var callers sync.WaitGroup
		until := time.Now().Add(d)
		for range 64 {
			callers.Go(func() {
				for time.Now().Before(until) {
					if r := client.Unary(ctx, target, grpcout.Call{Method: demoMethod, Message: echoMessage("hi")}); r.Status != codes.OK {
						b.Error(r.Status, r.Message)
						return
					}
					calls.Add(1)
				}
			})
		}
		callers.Wait()
	}
	run(time.Second) // warms up
	calls.Store(0)
	const d = 4 * time.Second
	before, cpu := mallocs(), cpuTime(b)
	run(d)
	n := max(calls.Load(), 1)
	l := loaded{float64(n) / d.Seconds(), float64(mallocs()-before) / float64(n), (cpuTime(b) - cpu) / time.Duration(n)}
	for _, close := range []func() error{client.Close, a.Stop, echo.Close} {
		if err := close(); err != nil {
			b.Error(err)
		}
	}
	return l
}

// cpuTime is what the process has taken.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// mallocs is how many pieces of memory the process has taken.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
