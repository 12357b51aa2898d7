package processor_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// fillWaiting writes rows to the table topic whose requests wait, for keys that begin with "w".
func (b *testbench) fillWaiting(rows int, next time.Time) {
	b.t.Helper()
	for i := range rows {
		r := request(fmt.Sprint("w", i))
		sent := message(r, "hello")
		kept := &rowpb.Request{Source: &rowpb.Source{Topic: requests, Offset: int64(i), TimestampMs: time.Now().UnixMilli()}, Key: sent.Key, HasKey: true, Value: sent.Value, HasValue: true}
		for _, h := range sent.Headers {
			kept.Headers = append(kept.Headers, &rowpb.Header{Name: []byte(h.Name), Value: h.Value})
		}
		value, err := proto.Marshal(&rowpb.Row{
			Version: 1, State: rowpb.State_STATE_WAITING, Fingerprint: make([]byte, 32), Service: service, Method: "UnaryEcho", CorrelationId: r.CorrelationID,
			Source: kept.Source, Attempts: 1, Status: 14, Target: b.service.addr, StartedMs: time.Now().Add(-time.Hour).UnixMilli(),
			Waiting: &rowpb.Waiting{Requests: []*rowpb.Request{kept}, NextMs: next.UnixMilli(), UntilMs: next.Add(time.Hour).UnixMilli()},
		})
		if err != nil {
			b.t.Fatal(err)
		}
		b.client.Produce(context.Background(), &kgo.Record{Topic: b.remote.Table, Key: sent.Key, Value: value, Partition: wire.Partition(sent.Key, b.partitions)}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.t.Error(err)
			}
		})
	}
	if err := b.client.Flush(context.Background()); err != nil {
		b.t.Fatal(err)
	}
}

const manyWaiting = 100_000

// All rows that wait are known at an assignment, whether they come from the changelog or are in the local store.
func TestManyWaitingRowsAreFound(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8, func(r *topology.Remote) { r.Processing.RetryParkAfter = time.Minute })
	b.quiet = true
	b.fillTable(1000, time.Now().Add(time.Hour))
	b.fillWaiting(manyWaiting, time.Now().Add(time.Hour))
	_, scrape := b.watched()
	dir := t.TempDir()
	for range 2 {
		i := b.start(dir)
		b.ready(i)
		b.has(scrape, fmt.Sprintf(`kafka_grpc_waiting_requests{group="%s"} %d`, b.remote.Group, manyWaiting))
		i.stop()
	}
	if got := len(b.service.received()); got != 0 {
		t.Errorf("%d calls, and none is due", got)
	}
}

// BenchmarkWaitingRows is how long after its start an instance with 1,000,000 rows of results, and 100,000 that wait, calls the first of
// them, all of which are due, and how fast they are answered.
func BenchmarkWaitingRows(b *testing.B) {
	for range b.N {
		t := newBench(b, benchPartitions, func(r *topology.Remote) { r.Processing.RetryParkAfter = time.Minute })
		t.quiet = true
		t.fillTable(benchRows, time.Now().Add(time.Hour))
		t.fillWaiting(manyWaiting, time.Now().Add(-time.Minute))
		i := t.start(b.TempDir())
		t.ready(i)
		begun := time.Now()
		t.service.wait(b, 1)
		b.ReportMetric(time.Since(begun).Seconds()*1000, "ms-to-first")
		t.service.wait(b, manyWaiting-1)
		b.ReportMetric(manyWaiting/time.Since(begun).Seconds(), "rows/s")
		i.stop()
	}
}
