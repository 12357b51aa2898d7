package kafka_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// history is a partition that several producers write to, in transactions and without.
type history struct {
	values []string // by offset, "" for none, or one that is not committed
	stable int64    // offset of the first transaction that is open
	end    int64
}

// write makes a history of random steps on partition 0 of topic t, and leaves some transactions open with open.
func write(t *testing.T, k *embedded.Kafka, steps int, open bool) *history {
	t.Helper()
	h := &history{}
	plain := client(t, k, kgo.ProducerLinger(0))
	type transaction struct {
		client  *kgo.Client
		begun   bool
		offsets []int64
	}
	var all []*transaction
	for n := range 3 {
		all = append(all, &transaction{client: client(t, k, kgo.ProducerLinger(0), kgo.TransactionalID(fmt.Sprint("tx-", n)))})
	}
	send := func(c *kgo.Client, value string) int64 {
		t.Helper()
		r := &kgo.Record{Topic: "t", Value: []byte(value)}
		if err := c.ProduceSync(within(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for int64(len(h.values)) <= r.Offset {
			h.values = append(h.values, "")
		}
		return r.Offset
	}
	end := func(x *transaction, how kgo.TransactionEndTry) {
		t.Helper()
		if err := x.client.EndTransaction(within(t), how); err != nil {
			t.Fatal(err)
		}
		for _, offset := range x.offsets {
			if how == kgo.TryCommit {
				h.values[offset] = fmt.Sprintf("%d:tx", offset)
			}
		}
		x.begun, x.offsets = false, nil
	}
	for range steps {
		x := all[rand.IntN(len(all))]
		switch what := rand.IntN(6); {
		case what == 0:
			offset := send(plain, "plain")
			h.values[offset] = fmt.Sprintf("%d:plain", offset)
		case what < 4:
			if !x.begun {
				if err := x.client.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				x.begun = true
			}
			x.offsets = append(x.offsets, send(x.client, "tx"))
		case len(x.offsets) > 0:
			end(x, kgo.TransactionEndTry(what == 4))
		}
	}
	h.stable = -1
	for n, x := range all {
		switch {
		case len(x.offsets) == 0:
		case open && n == 0:
			h.stable = x.offsets[0]
		default:
			end(x, kgo.TransactionEndTry(n == 1))
		}
	}
	return h
}

// at is what is at an offset for one who reads committed records, "" for nothing.
func (h *history) at(offset int64) string {
	if offset < h.stable && offset < int64(len(h.values)) {
		return h.values[offset]
	}
	return ""
}

// A reader is given what Kafka's own clients are, and knows of each offset where the next record is.
func TestReaderReadsCommittedRecords(t *testing.T) {
	t.Parallel()
	for n := range 8 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": 1})
			h := write(t, k, 60, n%2 == 0)
			r := newReader(t, c)
			var err error
			if h.end, err = r.End("t", 0); err != nil {
				t.Fatal(err)
			}
			if h.stable < 0 {
				h.stable = h.end
			}
			spans, err := r.Spans("t")
			if err != nil {
				t.Fatal(err)
			}
			if want := []kafka.Span{{To: h.stable}}; len(spans) != 1 || spans[0] != want[0] {
				t.Fatalf("spans %v, want %v", spans, want)
			}
			var want []string
			for offset := range h.stable {
				if v := h.at(offset); v != "" {
					want = append(want, v)
				}
			}
			if diff := cmp.Diff(want, readTopic(t, r, "t")[0]); diff != "" {
				t.Errorf("from the start: %s", diff)
			}
			for from := range h.end + 1 {
				var got, want []string
				next := from // of the first record, or what is stable
				for next < h.stable && h.at(next) == "" {
					next++
				}
				for offset := from; offset < h.stable; offset++ {
					if v := h.at(offset); v != "" {
						want = append(want, v)
					}
				}
				if from < h.stable {
					if err := r.Read(within(t), "t", kafka.Span{From: from, To: h.stable}, func(r wire.Record) error {
						got = append(got, fmt.Sprintf("%d:%s", r.Offset, r.Value))
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("from %d: %s", from, diff)
					}
				}
				at, open, err := r.Next("t", 0, from)
				if err != nil || at != next || open != (at >= h.stable && at < h.end) {
					t.Errorf("Next(%d) = %d, %v, %v; want %d of %d, %d", from, at, open, err, next, h.stable, h.end)
				}
				last, behind := from, false
				for offset := from; offset < h.end; offset++ {
					if offset < int64(len(h.values)) && h.values[offset] != "" {
						last, behind = offset+1, offset >= h.stable
					}
				}
				got2, open, _, err := r.Last(within(t), "t", 0, from)
				if err != nil || got2 != last || open != behind {
					t.Errorf("Last(%d) = %d, %v, %v; want %d, %v", from, got2, open, err, last, behind)
				}
			}
		})
	}
}

// A span that ends behind an open transaction is read when that has ended, and not before.
func TestReaderWaitsForATransaction(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	tx, cl := client(t, k, kgo.TransactionalID("tx")), client(t, k)
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	put(t, tx, 0, "open")
	put(t, cl, 0, "behind")
	r := newReader(t, c)
	var got []string
	read := func(ctx context.Context) error {
		return r.Read(ctx, "t", kafka.Span{To: 2}, func(r wire.Record) error { got = append(got, string(r.Value)); return nil })
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := read(soon); err == nil || len(got) > 0 {
		t.Errorf("read %q, error %v", got, err)
	}
	done := make(chan error, 1)
	go func() { done <- read(within(t)) }()
	if err := tx.EndTransaction(within(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"open", "behind"}, got); diff != "" {
		t.Error(diff)
	}
}

// A tail delivers what is committed, in its place, and nothing that is aborted.
func TestTailReadsCommittedRecords(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	in := newInbox()
	newTail(t, c, in.deliver, "t")
	cl := client(t, k)
	for _, how := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		tx := client(t, k, kgo.TransactionalID(fmt.Sprint("tx", how)))
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		name := map[kgo.TransactionEndTry]string{kgo.TryAbort: "aborted", kgo.TryCommit: "committed"}[how]
		put(t, tx, 0, name)
		put(t, cl, 0, "behind "+name)
		if err := tx.EndTransaction(within(t), how); err != nil {
			t.Fatal(err)
		}
		in.wait(t, "behind "+name)
	}
	if diff := cmp.Diff([]string{"behind aborted", "committed", "behind committed"}, in.values()); diff != "" {
		t.Error(diff)
	}
}

// Compaction removes whole batches, and leaves their offsets: also of those who ask for the next record and the last one.
func TestReaderPassesWhatCompactionRemoved(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	if err := k.Cluster().CreateTopic("t", 1, map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "1", "min.cleanable.dirty.ratio": "0", "min.compaction.lag.ms": "0",
	}); err != nil {
		t.Fatal(err)
	}
	cl := client(t, k)
	for n := range 20 {
		key := "k"
		if n == 0 {
			key = "first" // so that the partition begins with a record
		}
		if err := cl.ProduceSync(within(t), &kgo.Record{Topic: "t", Key: []byte(key), Value: fmt.Append(nil, n)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	k.Cluster().Compact()
	r := newReader(t, c)
	for from := int64(1); from < 20; from++ {
		next, open, err := r.Next("t", 0, from)
		if err != nil || open || next < 18 || next < from { // one in the segment that is written to, and what compaction has kept
			t.Errorf("Next(%d) = %d, %v, %v", from, next, open, err)
		}
	}
	if last, open, _, err := r.Last(within(t), "t", 0, 0); err != nil || open || last != 20 {
		t.Errorf("Last(0) = %d, %v, %v", last, open, err)
	}
}
