package processor_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/views"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// viewed is a view of the bench's table behind a server, until the test ends.
func (b *testbench) viewed() viewspb.ViewsClient {
	b.t.Helper()
	table := views.New(views.Config{
		Group: b.remote.Group, Topic: b.remote.Table, Loop: b.remote.Loop, Ordered: b.remote.Processing.Ordered(), Cluster: kafka.Cluster{Brokers: b.kafka.Brokers(), ClientID: "view"}, Dir: b.t.TempDir(),
		Log: slog.New(slog.NewTextHandler(testWriter{b.t}, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- table.Run(ctx) }()
	server := httptest.NewServer(views.Handler(table))
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
		server.Close()
	})
	ready, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := table.WaitReady(ready); err != nil {
		b.t.Fatal(err)
	}
	return viewspb.NewViewsClient(server.Client(), server.URL)
}

// While instances come and go, a view has each row that they write, and a watch each change once.
func TestViewWhileInstancesJoinAndLeave(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	first := b.started() // makes the table
	view := b.viewed()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience) // hundreds of calls
	defer cancel()
	watch, err := view.Watch(ctx, connect.NewRequest(&viewspb.WatchRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if !watch.Receive() { // it has begun
		t.Fatal(watch.Err())
	}

	const n = 100
	sent := 0
	send := func() {
		var records []wire.Record
		for range n {
			key := strconv.Itoa(sent)
			r := attempt(key, "call "+key)
			records = append(records, message(r, key), end(r))
			sent++
		}
		b.produce(records...)
	}
	send()
	second := b.start(t.TempDir())
	send()
	b.ready(second)
	send()
	first.stop()
	b.evict(first.dir) // or the group would wait for it to come back
	send()
	third := b.start(t.TempDir())
	send()
	b.ready(third)
	second.stop()
	b.evict(second.dir)
	send()
	b.committed()

	written := b.tableKeys()
	seen := make([][]string, b.partitions)
	for want := len(slices.Concat(written...)); len(slices.Concat(seen...)) < want; {
		if !watch.Receive() {
			t.Fatalf("the watch ended after %d changes: %v", len(slices.Concat(seen...)), watch.Err())
		}
		if watch.Msg().Change == nil {
			continue // it only tells how fresh the watch is
		}
		key := watch.Msg().GetEntry().GetKey()
		p := wire.Partition([]byte(key), b.partitions)
		seen[p] = append(seen[p], key)
	}
	for p := range written {
		if d := cmp.Diff(written[p], seen[p]); d != "" {
			t.Errorf("partition %d: other changes were watched than written: %s", p, d)
		}
	}
	for i := range sent {
		id := request(strconv.Itoa(i)).CorrelationID
		got, err := view.Get(ctx, connect.NewRequest(&viewspb.GetRequest{Key: id}))
		if err != nil {
			t.Errorf("key %d: %v", i, err)
			continue
		}
		if e := got.Msg.Entry; e.State != "final" || e.Status != "OK" || len(e.Messages) != 1 || string(e.Messages[0].Data) != strconv.Itoa(i) {
			t.Errorf("key %d: %v", i, e)
		}
	}
	listed, err := view.List(ctx, connect.NewRequest(&viewspb.ListRequest{Limit: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(listed.Msg.Entries); got != sent || listed.Msg.NextCursor != "" {
		t.Errorf("%d keys are listed, want %d", got, sent)
	}
}

// tableKeys are the keys of all records of the table's topic, by partition.
func (b *testbench) tableKeys() [][]string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := b.admin.ListEndOffsets(ctx, b.remote.Table)
	if err != nil {
		b.t.Fatal(err)
	}
	reader, err := kafka.NewReader(kafka.Cluster{Brokers: b.kafka.Brokers(), ClientID: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	keys := make([][]string, b.partitions)
	for p := range keys {
		end, ok := ends.Lookup(b.remote.Table, int32(p))
		if !ok || end.Err != nil {
			b.t.Fatalf("the end of partition %d: %v", p, end.Err)
		}
		err := reader.Read(ctx, b.remote.Table, kafka.Span{Partition: int32(p), To: end.Offset}, func(r wire.Record) error {
			keys[p] = append(keys[p], string(r.Key))
			return nil
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	if err := reader.Close(); err != nil {
		b.t.Fatal(err)
	}
	return keys
}
