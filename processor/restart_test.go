package processor_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
)

func TestRestartAnswersDuplicatesFromTheTable(t *testing.T) {
	t.Parallel()
	store := func(dir string) string { return filepath.Join(dir, "test-remote") }
	tests := []struct {
		name   string
		change func(t *testing.T, b *testbench, dir string) (next string) // between the two lives
	}{
		{"same state directory", func(_ *testing.T, _ *testbench, dir string) string { return dir }},
		{"new state directory", func(t *testing.T, b *testbench, dir string) string {
			b.evict(dir)
			return t.TempDir()
		}},
		{"stores wiped", func(t *testing.T, _ *testbench, dir string) string {
			if _, err := os.Stat(store(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(store(dir)); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
		{"one store wiped", func(t *testing.T, b *testbench, dir string) string {
			if err := os.RemoveAll(filepath.Join(store(dir), b.remote.Table+".0")); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2)
			first := b.started()
			const n = 10
			before := b.sendMany("before", n)
			b.committed()
			first.stop()
			b.ready(b.start(test.change(t, b, first.dir)))
			after := b.sendMany("after", n)
			for i := range n {
				before["before-"+strconv.Itoa(i)].same(t, after["after-"+strconv.Itoa(i)])
			}
			b.committed()
			if got := len(b.service.received()); got != n {
				t.Errorf("the service was called %d times, want %d", got, n)
			}
			if got := len(b.answers()); got != 2*n {
				t.Errorf("%d attempts were answered, want %d", got, 2*n)
			}
		})
	}
}

// sendMany makes attempts, named tag-0 and so on, for n keys that are always the same, and waits for all results.
func (b *testbench) sendMany(tag string, n int) map[string]result {
	b.t.Helper()
	for i := range n {
		key := strconv.Itoa(i)
		b.send(attempt(key, tag+"-"+key), key)
	}
	got := b.results(n)
	for i := range n {
		key := strconv.Itoa(i)
		got[tag+"-"+key].check(b.t, codes.OK, "", key)
	}
	return got
}

func TestCorruptStoreIsRecoveredFromTheChangelog(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, pattern string
		from, to      int // what is overwritten of the file; to 0: its end
		rows          int
	}{
		{"manifest", "MANIFEST-*", 0, 0, 10},
		{"record of the manifest", "MANIFEST-*", 10, 20, 10},
		{"current", "CURRENT", 0, 0, 10},
		{"tables", "*.ldb", 0, 0, 10},
		// The store opens, and its offset is in another block: it shows when a request comes.
		{"block of a table", "*.ldb", 36 << 10, 44 << 10, 1000},
		{"journal", "*.log", 0, 0, 10},
		// One block: what stands behind it, such as the offset of the store, is still read.
		{"start of the journal", "*.log", 0, 32 << 10, 600},
		// The store opens: it shows when a request comes.
		{"segments", "rows/*.ldb", 0, 0, 10},
		{"rows of a segment", "rows/*.ldb", 12 << 10, 20 << 10, 10},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			i := b.started()
			b.service.answers(func(_ context.Context, call received) ([]byte, error) {
				return []byte(call.message), call.stream.SetHeader(metadata.Pairs("x", incompressible(5000)))
			})
			n := test.rows
			b.sendMany("first", n)
			b.committed()
			i.stop()
			if test.pattern == "*.ldb" {
				// Opening a store moves what is in its journal to a table.
				i = b.start(i.dir)
				b.ready(i)
				i.stop()
			}
			store := filepath.Join(i.dir, "test-remote", b.remote.Table+".0")
			garble(t, filepath.Join(store, test.pattern), test.from, test.to)
			b.ready(b.start(i.dir))
			for key := range n {
				b.send(attempt(strconv.Itoa(key), fmt.Sprint("second-", key)), strconv.Itoa(key))
			}
			answers := b.answers()
			for key := range n { // all are answered, and as before; those before the damage was found perhaps once more
				all := answers[fmt.Sprint("second-", key)]
				if len(all) == 0 {
					t.Errorf("key %d is not answered", key)
				}
				for _, r := range all {
					answers[fmt.Sprint("first-", key)][0].same(t, r)
				}
			}
			if got := len(b.service.received()); got != n {
				t.Errorf("the service was called %d times, want %d", got, n)
			}
			if left, err := os.ReadDir(filepath.Dir(store)); err != nil || len(left) != 1 {
				t.Errorf("beside the store there is %v, %v", left, err)
			}
		})
	}
}

func incompressible(n int) string {
	var text strings.Builder
	for text.Len() < n {
		text.WriteString(rand.Text())
	}
	return text.String()[:n]
}

// garble overwrites a part of files, of which there must be one that is long enough.
func garble(t *testing.T, pattern string, from, to int) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	garbled := 0
	for _, name := range files {
		old, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		part := old
		if to > 0 {
			if len(old) <= to {
				continue
			}
			part = old[from:to]
		}
		garbled++
		copy(part, slices.Repeat([]byte("garbage!"), len(part)/8+1))
		if err := os.WriteFile(name, old, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if garbled == 0 {
		t.Fatalf("no file to garble: %s", pattern)
	}
}

func TestStopWaitsForCallsInFlight(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	i := b.started()
	open := b.service.gate()
	b.send(attempt("k", "a"), "one")
	b.service.wait(t, 1)
	b.send(attempt("k", "parked"), "one")
	i.begin()
	open()
	i.stop()
	got := b.written(t, "a")
	got.check(t, codes.OK, "", "one")
	rows := b.log(b.remote.Table)
	if len(rows) == 0 {
		t.Fatal("the result is not on the table topic")
	}

	b.ready(b.start(i.dir))
	b.send(attempt("k", "b"), "one")
	all := b.results(3) // that of "parked" is from before or after the restart
	for _, id := range []string{"a", "parked", "b"} {
		got.same(t, all[id])
	}
	if answers := b.answers(); len(answers) != 3 {
		t.Errorf("%d attempts were answered, want 3", len(answers))
	}
	b.wantExecuted("one")
}

// written is the result of an attempt that the reply topic holds already.
func (b *testbench) written(t *testing.T, id string) result {
	t.Helper()
	c := newCollector(t)
	for _, r := range b.log(replies) {
		if got, done, ok := c.add(r); ok && got == id {
			return done
		}
	}
	t.Fatalf("%s was not answered", id)
	return result{}
}

func TestStopEndsCallsAfterTheDrainTime(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.Drain = 200 * time.Millisecond })
	i := b.started()
	cancelled := make(chan error, 1)
	b.service.answers(func(ctx context.Context, _ received) ([]byte, error) {
		<-ctx.Done()
		cancelled <- ctx.Err()
		return nil, ctx.Err()
	})
	b.send(attempt("k", "a"), "one")
	b.service.wait(t, 1)
	i.stop()
	select {
	case err := <-cancelled:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the call ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the call goes on at the service")
	}
	if rows := b.log(b.remote.Table); len(rows) != 0 {
		t.Errorf("rows of a call that did not end: %v", describe(rows))
	}
	b.service.answers(nil)
	next := b.start(i.dir)
	b.ready(next)
	b.results(1)["a"].check(t, codes.OK, "", "one")
	only(t, b.answers(), "a")
	b.wantExecuted("one", "one")
	if row, err := next.Row(request("k").CorrelationID); err != nil || row.GetState() != rowpb.State_STATE_FINAL {
		t.Errorf("the row is %v, %v", row, err)
	}
}
