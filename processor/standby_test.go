package processor_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func TestStandbyCopyTakesOver(t *testing.T) {
	t.Parallel()
	const partitions, n = 4, 40
	for _, standby := range []bool{true, false} {
		t.Run(fmt.Sprint(standby), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, partitions, func(r *topology.Remote) { r.Processing.Standby = standby })
			first := b.started()
			b.sendMany("before", n)
			b.committed()
			second := b.start(t.TempDir())
			b.ready(second)
			b.sendMany("between", n) // rows are written while the copies follow
			b.committed()
			if s := second.State(); !s.Ready || s.Partitions != partitions/2 {
				t.Errorf("the second instance: %+v", s)
			}
			copies := 0
			for partition := range partitions {
				_, err := os.Stat(filepath.Join(second.dir, "test-remote", fmt.Sprintf("%s.%d", b.remote.Table, partition)))
				if err == nil {
					copies++
				}
			}
			if want := map[bool]int{true: partitions, false: partitions / 2}[standby]; copies != want {
				t.Errorf("the second instance has %d partitions, want %d", copies, want)
			}
			// A copy answers nothing: the partition has one owner.
			b.eachRowHasOneOwner(first, second)
			first.stop()
			b.evict(first.dir)
			b.sendMany("after", n)
			b.committed()
			if got := len(b.service.received()); got != n {
				t.Errorf("the service was called %d times, want %d", got, n)
			}
			for key := range n {
				if row, err := second.Row(request(strconv.Itoa(key)).CorrelationID); err != nil || row == nil {
					t.Errorf("the row of key %d: %v, %v", key, row, err)
				}
			}
		})
	}
}

// byPartition are the values of a metric that has a label partition.
func byPartition(t *testing.T, text, name string) map[string]int {
	t.Helper()
	values := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`\{group="test-remote",partition="(\d+)"\} (\S+)$`).FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		values[m[1]] = int(v)
	}
	return values
}

func sum(values map[string]int) (n int) {
	for _, v := range values {
		n += v
	}
	return n
}

// An instance tells how large its copies are, of its own partitions and of those that it only follows.
func TestRowsOfEveryCopyAreCounted(t *testing.T) {
	t.Parallel()
	const partitions, n = 2, 5000 // several steps of the counting in each
	b := newBench(t, partitions, func(r *topology.Remote) { r.Processing.Standby = true })
	first := b.started()
	var records []wire.Record
	for i := range n {
		r := attempt(strconv.Itoa(i), fmt.Sprint("call ", i))
		records = append(records, message(r, "hi"), end(r))
	}
	b.produce(records...)
	b.results(n)
	b.committed()
	b.sweep = 50 * time.Millisecond // they are counted as often
	_, scrape := b.watched()
	second := b.start(t.TempDir())
	b.ready(second)
	counted := func(want int) {
		t.Helper()
		b.eventually(fmt.Sprintf("%d rows", want), func() bool {
			rows := byPartition(t, scrape(), "kafka_grpc_table_rows")
			return len(rows) == partitions && sum(rows) == want
		})
	}
	counted(n)
	for partition, size := range byPartition(t, scrape(), "kafka_grpc_table_size_bytes") {
		if size < n/partitions/2*50 {
			t.Errorf("the rows of partition %s take %d bytes", partition, size)
		}
	}
	b.call(attempt("one more", "1"), "hi")
	counted(n + 1)
	second.stop()
	if text := scrape(); len(byPartition(t, text, "kafka_grpc_table_rows")) > 0 {
		t.Errorf("an instance that has stopped tells its rows: %s", text)
	}
	first.stop()
}

// What a copy lacks is told within seconds, also while it gets nothing that would tell it.
func TestStandbyLagIsFresh(t *testing.T) {
	t.Parallel()
	const partitions, n = 4, 40
	b := newBench(t, partitions, func(r *topology.Remote) { r.Processing.Standby = true })
	first := b.started()
	b.sendMany("before", n)
	b.committed()
	_, scrape := b.watched()
	second := b.start(t.TempDir())
	b.ready(second)
	lags := func(from, to int) {
		t.Helper()
		b.eventually(fmt.Sprintf("copies that lack %d to %d records", from, to), func() bool {
			lag := byPartition(t, scrape(), "kafka_grpc_standby_lag")
			return len(lag) == partitions/2 && sum(lag) >= from && sum(lag) <= to
		})
	}
	lags(0, 0)
	rebalances := func() string {
		return regexp.MustCompile(`(?m)^kafka_grpc_rebalances_total\{group="test-remote"\} (\S+)$`).FindStringSubmatch(scrape())[1]
	}
	joined := rebalances()
	open := b.emptyFetches(b.remote.Table)
	before := map[int32]int64{}
	ends, err := b.admin.ListEndOffsets(t.Context(), b.remote.Table)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { before[o.Partition] = o.Offset })
	b.sendMany("between", n) // each writes its row again
	b.committed()
	if ends, err = b.admin.ListEndOffsets(t.Context(), b.remote.Table); err != nil {
		t.Fatal(err)
	}
	copies, lacks := byPartition(t, scrape(), "kafka_grpc_standby_lag"), 0
	ends.Each(func(o kadm.ListedOffset) {
		if _, ok := copies[strconv.Itoa(int(o.Partition))]; ok {
			lacks += int(o.Offset - before[o.Partition])
		}
	})
	if lacks == 0 {
		t.Fatal("nothing was written to the partitions that are followed")
	}
	lags(1, lacks) // a fetch that was on its way may have brought the first ones
	open()
	lags(0, 0)
	var back atomic.Bool
	b.kafka.Cluster().ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		if back.Load() {
			return nil, nil, false
		}
		b.kafka.Cluster().KeepControl()
		return nil, errors.New("no answer"), true
	})
	b.eventually("a lag that nobody knows is not told", func() bool {
		return len(byPartition(t, scrape(), "kafka_grpc_standby_lag")) == 0
	})
	back.Store(true)
	lags(0, 0)
	first.stop()
	b.evict(first.dir)
	b.eventually("a rebalance, and no copies of partitions of others", func() bool {
		return rebalances() != joined && len(byPartition(t, scrape(), "kafka_grpc_standby_lag")) == 0
	})
	second.stop()
}
