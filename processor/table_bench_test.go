package processor_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

const (
	benchRows       = 1_000_000
	benchPartitions = 8
)

// fillTable writes small final rows to the table topic, for the keys "0" and so on.
func (b *testbench) fillTable(rows int, expires time.Time) {
	b.t.Helper()
	b.createTable()
	row := &rowpb.Row{
		Version: 1, State: rowpb.State_STATE_FINAL, Fingerprint: make([]byte, 32), Service: service, Method: "UnaryEcho",
		Messages: [][]byte{[]byte("hello")}, Source: &rowpb.Source{Topic: requests}, Attempts: 1, Target: b.service.addr,
		ExpiresMs: expires.UnixMilli(),
	}
	var failed atomic.Pointer[error]
	for i := range rows {
		row.CorrelationId = request(fmt.Sprint(i)).CorrelationID
		value, err := proto.Marshal(row)
		if err != nil {
			b.t.Fatal(err)
		}
		key := []byte(row.CorrelationId)
		k := &kgo.Record{Topic: b.remote.Table, Key: key, Value: value, Partition: wire.Partition(key, b.partitions)}
		b.client.Produce(context.Background(), k, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := b.client.Flush(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		b.t.Fatal(*err)
	}
}

func newTableBench(b *testing.B, standby bool) *testbench {
	t := newBench(b, benchPartitions, func(r *topology.Remote) { r.Processing.Standby = standby })
	t.quiet = true
	t.fillTable(benchRows, time.Now().Add(time.Hour))
	return t
}

// BenchmarkRecovery is the start of the only instance, to readiness, for a table of 1,000,000 small rows.
func BenchmarkRecovery(b *testing.B) {
	t := newTableBench(b, false)
	run := func(b *testing.B, dir func() string) {
		for range b.N {
			state := dir()
			i := t.start(state)
			t.ready(i)
			b.StopTimer()
			i.stop()
			t.evict(state)
			b.StartTimer()
		}
	}
	b.Run("without a local store", func(b *testing.B) {
		run(b, b.TempDir)
		b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
	})
	kept := b.TempDir()
	i := t.start(kept)
	t.ready(i)
	i.stop()
	t.evict(kept)
	b.Run("with its local store", func(b *testing.B) { run(b, func() string { return kept }) })
}

// BenchmarkHandOver is the time from an instance's leaving the group, which has two, until all of its partitions answer
// from the table elsewhere. A killed instance leaves when its session times out, after 10s, unless it is back before.
func BenchmarkHandOver(b *testing.B) {
	b.Run("without standby", func(b *testing.B) { benchmarkHandOver(b, false) })
	b.Run("with standby", func(b *testing.B) { benchmarkHandOver(b, true) })
}

func benchmarkHandOver(b *testing.B, standby bool) {
	t := newTableBench(b, standby)
	b.ResetTimer()
	for n := range b.N {
		b.StopTimer()
		first, second := t.start(b.TempDir()), t.start(b.TempDir())
		t.ready(first)
		t.ready(second)
		t.eventually("both own partitions", func() bool {
			s := [2]int{first.State().Partitions, second.State().Partitions}
			return s == [2]int{benchPartitions / 2, benchPartitions / 2} && first.State().Ready && second.State().Ready
		})
		first.stop()
		b.StartTimer()
		t.evict(first.dir)
		asked := 0
		for key, seen := 0, map[int32]bool{}; len(seen) < benchPartitions; key++ {
			r := attempt(fmt.Sprint(key), fmt.Sprintf("%d-%d", n, key))
			if p := wire.Partition([]byte(r.CorrelationID), benchPartitions); !seen[p] {
				seen[p] = true
				asked++
				t.send(r, "another request than the row's")
			}
		}
		for _, r := range t.results(asked) {
			r.check(b, codes.FailedPrecondition, "used with another request")
		}
		b.StopTimer()
		second.stop()
		t.evict(second.dir)
		b.StartTimer()
	}
}

// BenchmarkSweep is the removal of 200,000 expired rows, of one call at a time that is made meanwhile, and of one that
// is made when nothing else goes on.
func BenchmarkSweep(b *testing.B) {
	const rows = 200_000
	for range b.N {
		b.StopTimer()
		t := newBench(b, benchPartitions)
		t.quiet, t.sweep = true, 100*time.Millisecond
		t.fillTable(rows, time.Now().Add(-time.Hour))
		b.StartTimer()
		t.started()
		removed := func() bool {
			ends, err := t.admin.ListEndOffsets(b.Context(), t.remote.Table)
			if err != nil {
				b.Fatal(err)
			}
			records := int64(0)
			ends.Each(func(o kadm.ListedOffset) { records += o.Offset })
			return records >= 2*rows
		}
		median := func(tag string, calls func(n int) bool) time.Duration {
			var took []time.Duration
			for n := 0; calls(n); n++ {
				begun := time.Now()
				key := fmt.Sprint(tag, n)
				t.call(attempt(key, key), "hello")
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, tag+"-p99-ms")
			return took[len(took)/2]
		}
		begun := time.Now()
		busy := median("busy", func(int) bool { return !removed() })
		b.ReportMetric(rows/time.Since(begun).Seconds(), "rows/s")
		idle := median("idle", func(n int) bool { return n < 500 })
		b.ReportMetric(float64(busy.Microseconds())/1000, "busy-p50-ms")
		b.ReportMetric(float64(idle.Microseconds())/1000, "idle-p50-ms")
	}
}
