package processor_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// The changelog forgets removals after delete.retention.ms: a store from before would keep the rows for good.
func TestOldStoreDoesNotBringRowsBack(t *testing.T) {
	t.Parallel()
	const retention = 24 * time.Hour
	tests := []struct {
		name    string
		fresh   string // what the store says of itself, "" for nothing
		forgets bool
	}{
		{"in use just now", time.Now().UTC().Format(time.RFC3339), false},
		{"younger than half", time.Now().Add(-retention/2 + time.Hour).UTC().Format(time.RFC3339), false},
		{"older than half", time.Now().Add(-retention/2 - time.Hour).UTC().Format(time.RFC3339), true},
		{"from the future", time.Now().Add(retention).UTC().Format(time.RFC3339), true},
		{"of unknown age", "", true},
		{"of unreadable age", "yesterday", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			i := b.started()
			b.call(attempt("dead", "a"), "one").check(t, codes.OK, "", "one")
			b.call(attempt("live", "a"), "two").check(t, codes.OK, "", "two")
			b.committed()
			i.stop()
			store := filepath.Join(i.dir, "test-remote", b.remote.Table+".0")
			if at, err := os.ReadFile(filepath.Join(store, "up-to-date")); err != nil {
				t.Fatal(err)
			} else if _, err := time.Parse(time.RFC3339+"\n", string(at)); err != nil {
				t.Error(err)
			}
			setFreshness(t, store, test.fresh)

			// Removed by another instance, and the removal forgotten. The last record keeps the end where it is.
			key := []byte(request("dead").CorrelationID)
			b.produceTo(b.remote.Table, 0, wire.Record{Key: key})
			b.produceTo(b.remote.Table, 0, wire.Record{Key: []byte("other"), Value: []byte{}})
			b.eventually("the changelog has forgotten the key", func() bool {
				b.retention("0")
				b.kafka.Cluster().Compact()
				for _, r := range b.log(b.remote.Table) {
					if string(r.Key) == string(key) {
						return false
					}
				}
				return true
			})
			b.retention("86400000")

			next := b.start(i.dir)
			b.ready(next)
			row, err := next.Row(string(key))
			if err != nil || (row == nil) != test.forgets {
				t.Errorf("the removed row is %v, %v", row, err)
			}
			if row, err := next.Row(request("live").CorrelationID); err != nil || row == nil {
				t.Errorf("the live row is %v, %v", row, err)
			}
		})
	}
}

func setFreshness(t *testing.T, store, text string) {
	t.Helper()
	path := filepath.Join(store, "up-to-date")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if text == "" {
		return
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// retention sets delete.retention.ms of the table.
func (b *testbench) retention(ms string) {
	b.t.Helper()
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "delete.retention.ms", Value: &ms}}
	done, err := b.admin.AlterTopicConfigs(context.Background(), set, b.remote.Table)
	if err == nil {
		err = done[0].Err
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// A table topic that was deleted takes what it knew with it, and a store of the old one must not stand in for it: what it
// does not write to the new one, other instances would not know.
func TestStoreOfADeletedTableIsRemoved(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		rows int // in the new table
	}{{"empty", 0}, {"shorter", 1}, {"longer", 20}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			i := b.started()
			b.sendMany("first", 3)
			b.committed()
			i.stop()
			if _, err := b.admin.DeleteTopics(context.Background(), b.remote.Table); err != nil {
				t.Fatal(err)
			}
			b.createTable()
			for range test.rows {
				b.produceTo(b.remote.Table, 0, wire.Record{Key: []byte("other"), Value: []byte{}})
			}
			next := b.start(i.dir)
			b.ready(next)
			if row, err := next.Row(request("0").CorrelationID); err != nil || row != nil {
				t.Errorf("a row of the deleted table: %v, %v", row, err)
			}
			b.sendMany("second", 3)
			b.committed()
			if got := len(b.service.received()); got != 6 {
				t.Errorf("the service was called %d times, want 6", got)
			}
		})
	}
}
