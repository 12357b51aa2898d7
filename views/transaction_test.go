package views_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/views"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// transaction begins one that writes rows. end ends it.
func (b *bench) transaction(keys ...string) (end func(kgo.TransactionEndTry)) {
	b.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.TransactionalID(fmt.Sprint(b.t.Name(), keys)),
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
	value, err := proto.Marshal(aRow())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, key := range keys {
		record := &kgo.Record{Topic: topic, Partition: wire.Partition([]byte(key), b.partitions), Key: []byte(key), Value: value}
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
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

// fresh waits until the view knows that it has everything that was in the topic at a moment.
func (b *bench) fresh(i *instance, at time.Time) {
	b.t.Helper()
	b.eventually("the view has everything", func() bool {
		response, err := i.client.Stats(context.Background(), connect.NewRequest(&viewspb.StatsRequest{}))
		if err != nil {
			b.t.Fatal(err)
		}
		table := response.Msg.Tables[0]
		lag := int64(0)
		for _, p := range table.Partitions {
			lag += p.Lag
		}
		return table.Ready && lag == 0 && table.Freshness.AsOf.AsTime().After(at)
	})
}

// A view has the rows of committed transactions only, and is as fresh as ever when the last offsets of the topic belong to no row:
// when it catches up, while it follows, and with a store that has all of them.
func TestViewReadsCommittedRows(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.config = func(c *views.Config) { c.MaxAge = 3 * time.Second }
	b.put("before", aRow())
	b.transaction("aborted before")(kgo.TryAbort)
	i := b.started()
	b.transaction("committed")(kgo.TryCommit)
	b.transaction("aborted", "aborted", "aborted")(kgo.TryAbort)
	b.has(i, "committed")
	b.fresh(i, time.Now())
	i.stop()
	for _, dir := range []string{i.dir, t.TempDir()} {
		i = b.start(dir)
		b.ready(i)
		b.fresh(i, time.Now())
		for key, want := range map[string]int{"before": 200, "committed": 200, "aborted before": 404, "aborted": 404} {
			if status, body := i.get(t, "/v1/keys/"+key, nil); status != want {
				t.Errorf("%s: %d %s", key, status, body)
			}
		}
		i.stop()
	}
}

// Rows behind an open transaction are not in the view yet, and it says so; once it has ended, they are.
func TestViewWaitsForATransaction(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.config = func(c *views.Config) { c.MaxAge = 3 * time.Second }
	i := b.started()
	commit := b.transaction("open")
	b.put("behind", aRow())
	b.eventually("the view says what it waits for", func() bool {
		reason := i.NotReady()
		return strings.Contains(reason, "a producer's transaction is open in the topic") && strings.Contains(reason, "2 records are known to be missing")
	})
	commit(kgo.TryCommit)
	b.has(i, "behind")
	b.has(i, "open")
	b.fresh(i, time.Now())
	i.stop()
}
