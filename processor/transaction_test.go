package processor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/wire"
)

// transaction begins one that writes records to a topic, each to its key's partition. end ends it.
func (b *testbench) transaction(topic string, records ...wire.Record) (end func(kgo.TransactionEndTry)) {
	b.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.TransactionalID(b.t.Name()+topic+string(records[0].Key)+fmt.Sprint(len(records))),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(client.Close)
	if err := client.BeginTransaction(); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	for _, r := range records {
		k := &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Partition: wire.Partition(r.Key, b.partitions)}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		if err := client.ProduceSync(ctx, k).FirstErr(); err != nil {
			b.t.Fatal(err)
		}
	}
	return func(how kgo.TransactionEndTry) {
		b.t.Helper()
		if err := client.EndTransaction(ctx, how); err != nil {
			b.t.Fatal(err)
		}
	}
}

// end is the offset of the next record of the first partition of a topic.
func (b *testbench) end(topic string) int64 {
	b.t.Helper()
	ends, err := b.admin.ListEndOffsets(context.Background(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	return end.Offset
}

// lag waits until the lag of the only request partition is n.
func (b *testbench) lag(scrape func() string, n int) {
	b.t.Helper()
	b.has(scrape, fmt.Sprintf(`kafka_grpc_consumer_lag{group="test-remote",partition="0",topic="echo-requests"} %d`, n))
}

// A request that its producer has aborted is none: nobody executes it, and another one of its key is executed. What is committed
// passes the markers, too, also after a restart, when nothing comes any more.
func TestAbortedRequestsAreNotExecuted(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	_, scrape := b.watched()
	i := b.started()
	r := attempt("k", "1")
	b.transaction(requests, message(r, "aborted"), end(r))(kgo.TryAbort)
	b.committed()
	b.call(attempt("k", "2"), "valid").check(t, codes.OK, "", "valid")
	r = attempt("k2", "3")
	b.transaction(requests, message(r, "committed"), end(r))(kgo.TryCommit)
	b.results(1)["3"].check(t, codes.OK, "", "committed")
	b.committed()
	b.lag(scrape, 0)
	i.stop()
	r = attempt("k3", "4")
	b.transaction(requests, message(r, "aborted"), end(r))(kgo.TryAbort)
	i = b.start(i.dir)
	b.ready(i)
	b.committed()
	b.lag(scrape, 0)
	i.stop()
	for _, call := range b.service.received() {
		if call.message == "aborted" {
			t.Errorf("an aborted request was executed")
		}
	}
}

// A request waits for the end of its transaction, and so does what is behind it in its partition.
func TestRequestsWaitForTheirTransaction(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	_, scrape := b.watched()
	i := b.started()
	b.call(attempt("before", "1"), "before").check(t, codes.OK, "", "before")
	r := attempt("open", "2")
	commit := b.transaction(requests, message(r, "open"), end(r))
	b.send(attempt("behind", "3"), "behind")
	b.lag(scrape, 4)
	if calls := b.service.received(); len(calls) != 1 {
		t.Errorf("%d calls while the transaction is open", len(calls))
	}
	commit(kgo.TryCommit)
	got := b.results(2)
	got["2"].check(t, codes.OK, "", "open")
	got["3"].check(t, codes.OK, "", "behind")
	b.committed()
	b.lag(scrape, 0)
	i.stop()
}

// The last offsets of the table may belong to no row that goka is given. It has recovered nevertheless, without the rows that were
// aborted.
func TestRecoveryEndsAtNoRow(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]kgo.TransactionEndTry{"committed": kgo.TryCommit, "aborted": kgo.TryAbort} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2)
			i := b.started()
			first := attempt("k", "1")
			b.call(first, "hi").check(t, codes.OK, "", "hi")
			b.committed()
			i.stop()
			row := b.log(b.remote.Table)[0]
			other := attempt("other", "2")
			for n := range 3 {
				copied := wire.Record{Key: []byte(other.CorrelationID), Value: row.Value}
				b.transaction(b.remote.Table, slices.Repeat([]wire.Record{copied}, n+1)...)(end)
			}
			for round, dir := range []string{t.TempDir(), i.dir} { // without a store, and with one that lacks only these
				i := b.start(dir)
				b.ready(i)
				if row, err := i.Row(first.CorrelationID); err != nil || row == nil {
					t.Errorf("the row that was there is %v, %v", row, err)
				}
				row, err := i.Row(other.CorrelationID)
				if err != nil || (row != nil) != (name == "committed") {
					t.Errorf("round %d: the row of the transaction is %v, %v", round, row, err)
				}
				i.stop()
			}
		})
	}
}

// A result may be behind a transaction of somebody else that is open. The recovery waits for it: without it the key would
// be executed again.
func TestRecoveryWaitsForRowsBehindATransaction(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	r := attempt("k", "1")
	b.call(r, "first").check(t, codes.OK, "", "first")
	b.committed()
	row := b.log(b.remote.Table)[0]
	foreign := b.end(b.remote.Table)
	abort := b.transaction(b.remote.Table, wire.Record{Key: []byte("foreign"), Value: row.Value})
	b.call(attempt("k2", "2"), "second").check(t, codes.OK, "", "second")
	b.committed()
	i.stop()
	i = b.start(t.TempDir())
	b.send(attempt("k2", "3"), "second")
	b.eventually("it says what it waits for", func() bool {
		return log.Count("the recovery of the table waits for the end of a producer's transaction") == 1
	})
	b.eventually("its state says what it waits for", func() bool {
		s := i.State()
		return !s.Ready && strings.Contains(s.Reason, fmt.Sprint("partition 0 waits for the end of a producer's transaction that is open at offset ", foreign))
	})
	abort(kgo.TryAbort)
	b.ready(i)
	b.results(1)["3"].check(t, codes.OK, "", "second")
	if n := len(b.service.received()); n != 2 {
		t.Errorf("%d calls, not 2", n)
	}
	if row, err := i.Row("foreign"); row != nil || err != nil {
		t.Errorf("the aborted row is %v, %v", row, err)
	}
	i.stop()
}

// Without an open transaction that holds a row back none is waited for, and where all rows are gone neither.
func TestRecoveryDoesNotWaitForForeignTransactions(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	b.call(attempt("k", "1"), "hi").check(t, codes.OK, "", "hi")
	row := b.log(b.remote.Table)[0]
	b.committed()
	i.stop()
	b.transaction(b.remote.Table, wire.Record{Key: []byte("foreign"), Value: row.Value}) // stays open
	i = b.start(t.TempDir())
	b.ready(i)
	b.call(attempt("k", "2"), "hi").check(t, codes.OK, "", "hi")
	if n := len(b.service.received()); n != 1 {
		t.Errorf("%d calls, not 1", n)
	}
	i.stop()
}
