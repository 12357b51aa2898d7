package tablestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"kafkagrpc/internal/tablestore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Ends by itself within a second after its store is closed; Close does not wait for it.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

const topic, partition = "table", 3

// stores are those of a changelog that ends at offset 10.
func stores(t *testing.T, dir string) tablestore.Stores {
	return tablestore.Stores{
		Dir: dir, ID: "id-1", MaxAge: time.Hour, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		End: func(string, int32) (int64, error) { return 10, nil },
	}
}

func open(t rapid.TB, b tablestore.Stores) *tablestore.Store {
	t.Helper()
	s, err := b.Open(topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func check(t rapid.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// each visits the rows of a store in the order of their keys, until visit answers false.
func each(s *tablestore.Store, visit func(key, row []byte) bool) error {
	it, err := s.Iterator()
	if err != nil {
		return err
	}
	defer it.Release()
	for it.Next() {
		row, err := it.Value()
		if err != nil || !visit(it.Key(), row) {
			return err
		}
	}
	return it.Err()
}

// keys are those that Keys visits.
func keys(t *testing.T, s *tablestore.Store) (keys []string) {
	t.Helper()
	check(t, s.Keys(func(key []byte, _ int64) bool {
		keys = append(keys, string(key))
		return true
	}))
	return keys
}

func TestRowsAreApartFromTheOffset(t *testing.T) {
	t.Parallel()
	s := open(t, stores(t, t.TempDir()))
	defer func() { check(t, s.Close()) }()
	check(t, s.Set("b", []byte("2")), s.Set("__offset", []byte("a row")), s.Set("a", []byte("1")), s.Set("gone", nil), s.SetOffset(7), s.Delete("gone"))
	if at, err := s.GetOffset(-2); at != 7 || err != nil {
		t.Errorf("the offset is %d, %v", at, err)
	}
	for key, want := range map[string]string{"a": "1", "__offset": "a row", "gone": "", "k/a": "", "": ""} {
		got, err := s.Get(key)
		has, errHas := s.Has(key)
		if string(got) != want || has != (want != "") || (got == nil) != (want == "") || err != nil || errHas != nil {
			t.Errorf("%q: %q, %t, %v, %v", key, got, has, err, errHas)
		}
	}
	visited := 0
	check(t, s.Keys(func(key []byte, _ int64) bool { visited++; return string(key) < "a" }))
	if visited != 2 {
		t.Errorf("%d rows visited up to a, want 2", visited)
	}
	if got, want := keys(t, s), []string{"__offset", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("keys %q, want %q", got, want)
	}
	for _, test := range []struct{ from, to, want string }{{"", "", "__offset a b"}, {"a", "", "a b"}, {"", "b", "__offset a"}, {"a", "b", "a"}, {"c", "", ""}} {
		it, err := s.IteratorWithRange([]byte(test.from), []byte(test.to))
		check(t, err)
		var got []string
		for it.Next() {
			got = append(got, string(it.Key()))
		}
		check(t, it.Err())
		it.Release()
		if strings.Join(got, " ") != test.want {
			t.Errorf("from %q to %q: %q, want %s", test.from, test.to, got, test.want)
		}
	}
	if n := s.Size(); n < 60 || n > 1000 {
		t.Errorf("3 small rows take %d bytes", n)
	}
	it, err := s.Iterator()
	check(t, err)
	defer it.Release()
	if !it.Seek([]byte("aa")) || string(it.Key()) != "b" {
		t.Errorf("sought aa, found %q", it.Key())
	}
}

// A store is continued only where it is certainly a copy of the beginning of the changelog.
func TestWhichStoreIsContinued(t *testing.T) {
	t.Parallel()
	fresh := func(t *testing.T, store, text string) {
		check(t, os.WriteFile(filepath.Join(store, "up-to-date"), []byte(text), 0o644))
	}
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }
	tests := []struct {
		name      string
		offset    int64
		change    func(t *testing.T, store string, b *tablestore.Stores)
		continued bool
	}{
		{"as it was", 9, func(*testing.T, string, *tablestore.Stores) {}, true},
		{"with more than the changelog", 10, func(*testing.T, string, *tablestore.Stores) {}, false},
		{"nearly too old", 9, func(t *testing.T, store string, _ *tablestore.Stores) { fresh(t, store, ago(59*time.Minute)) }, true},
		{"too old", 9, func(t *testing.T, store string, _ *tablestore.Stores) { fresh(t, store, ago(61*time.Minute)) }, false},
		{"of the future", 9, func(t *testing.T, store string, _ *tablestore.Stores) { fresh(t, store, ago(-61*time.Minute)) }, false},
		{"of no age", 9, func(t *testing.T, store string, _ *tablestore.Stores) { fresh(t, store, "yesterday") }, false},
		{"without an age", 9, func(t *testing.T, store string, _ *tablestore.Stores) {
			check(t, os.Remove(filepath.Join(store, "up-to-date")))
		}, false},
		{"of another topic", 9, func(_ *testing.T, _ string, b *tablestore.Stores) { b.ID = "id-2" }, false},
		{"of a topic that nobody names", 9, func(t *testing.T, store string, _ *tablestore.Stores) {
			check(t, os.Remove(filepath.Join(store, "topic-id")))
		}, false},
		{"of a topic without an id", 9, func(_ *testing.T, _ string, b *tablestore.Stores) { b.ID = "" }, true},
		{"marked as corrupt", 9, func(t *testing.T, store string, _ *tablestore.Stores) {
			check(t, os.WriteFile(filepath.Join(store, "corrupt"), []byte("a block"), 0o644))
		}, false},
		{"with an offset that is none", 9, func(t *testing.T, store string, _ *tablestore.Stores) {
			db, err := leveldb.OpenFile(store, nil)
			check(t, err)
			check(t, db.Put([]byte("__offset"), []byte("nine"), nil), db.Close())
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := stores(t, t.TempDir())
			s := open(t, b)
			check(t, s.Set("a", []byte("1")), s.SetOffset(test.offset), s.MarkRecovered(), s.Close())
			test.change(t, filepath.Join(b.Dir, "table.3"), &b)
			s = open(t, b)
			at, err := s.GetOffset(-2)
			check(t, err)
			rows, want, wantAt := len(keys(t, s)), 0, int64(-2)
			if test.continued {
				want, wantAt = 1, test.offset
			}
			if rows != want || at != wantAt {
				t.Errorf("it has %d rows and offset %d, want %d and %d", rows, at, want, wantAt)
			}
			// What was begun anew is a store that can be continued.
			check(t, s.SetOffset(9), s.Set("b", nil), s.MarkRecovered(), s.Close())
			s = open(t, b)
			if has, err := s.Has("b"); !has || err != nil {
				t.Errorf("the store is not continued: %v", err)
			}
			check(t, s.Close())
		})
	}
}

// A corrupt store takes no space any more, nor do those that earlier versions have kept.
func TestCorruptStoreIsRemoved(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	var log bytes.Buffer
	b.Log = slog.New(slog.NewTextHandler(&log, nil))
	store := filepath.Join(b.Dir, "table.3")
	check(t, open(t, b).Close(), os.WriteFile(filepath.Join(store, "corrupt"), nil, 0o644))
	for _, kept := range []string{"table.3.corrupt", "table.1.corrupt"} {
		check(t, os.CopyFS(filepath.Join(b.Dir, kept), os.DirFS(store)))
	}
	check(t, open(t, b).Close())
	left, err := os.ReadDir(b.Dir)
	check(t, err)
	if len(left) != 1 || left[0].Name() != "table.3" {
		t.Errorf("the folder has %v", left)
	}
	check(t, open(t, b).Close()) // the new store is not marked
	if n := strings.Count(log.String(), "level=ERROR "); n != 1 || strings.Count(log.String(), " topic=table partition=3 ") != n {
		t.Errorf("the log is %s", &log)
	}
}

// Tables and segments are not forced to the disk, so a machine that loses power may lose what is in one: no row is taken for one that was never there.
func TestTablesThatWereLost(t *testing.T) {
	t.Parallel()
	const rows = 200
	for name, lose := range map[string]func(file string, size int64) error{
		"removed": func(file string, _ int64) error { return os.Remove(file) },
		"empty":   func(file string, _ int64) error { return os.Truncate(file, 0) },
		"cut":     func(file string, size int64) error { return os.Truncate(file, size/2) },
		"zeros":   func(file string, size int64) error { return os.WriteFile(file, make([]byte, size), 0o600) },
		"zeros behind the begin": func(file string, size int64) error {
			return errors.Join(os.Truncate(file, size/2), os.Truncate(file, size))
		},
		"zeros before the end": func(file string, size int64) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, size/2), 0)
			return errors.Join(err, f.Close())
		},
	} {
		for what, in := range map[string]string{"keys": "", "rows": "rows"} {
			t.Run(what+" "+name, func(t *testing.T) {
				t.Parallel()
				b := stores(t, t.TempDir())
				b.End = func(string, int32) (int64, error) { return rows, nil }
				s := open(t, b)
				for n := range rows {
					check(t, s.Set(fmt.Sprint(n), bytes.Repeat([]byte{byte(n)}, 1000)))
				}
				check(t, s.SetOffset(rows-1), s.MarkRecovered(), s.Close())
				check(t, open(t, b).Close()) // what was in the journal is in a table now
				tables, err := filepath.Glob(filepath.Join(b.Dir, "table.3", in, "*.ldb"))
				check(t, err)
				if len(tables) == 0 {
					t.Fatal("there is no such file")
				}
				for _, table := range tables {
					info, err := os.Stat(table)
					check(t, err, lose(table, info.Size()))
				}
				s = open(t, b)
				began, err := s.GetOffset(-2)
				check(t, err)
				var failed error
				for n := range rows {
					row, err := s.Get(fmt.Sprint(n))
					failed = errors.Join(failed, err)
					if err == nil && row == nil && began != -2 && failed == nil {
						t.Fatalf("row %d is missing from a store that has all up to %d", n, began)
					}
				}
				_ = s.Close() // it says what has failed
				s = open(t, b)
				if again, err := s.GetOffset(-2); began != -2 && (failed == nil || again != -2) || err != nil {
					t.Errorf("the store is continued at %d, then at %d, %v; reading ended with %v", began, again, err, failed)
				}
				check(t, s.Close())
			})
		}
	}
}

// Earlier versions cannot read large rows that are apart, and begin a store anew that has such a file.
func TestEarlierVersionsBeginAnew(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	s := open(t, b)
	_, err := os.Stat(filepath.Join(b.Dir, "table.3", "corrupt"))
	check(t, err, s.Close())
}

// Without the end of the changelog nothing can be said of a store: it stays.
func TestEndThatIsNotKnown(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	s := open(t, b)
	check(t, s.Set("a", nil), s.SetOffset(1), s.Close())
	down, away := b, errors.New("no broker")
	down.End = func(string, int32) (int64, error) { return 0, away }
	built, err := down.Build(topic, partition)
	if !errors.Is(err, away) || built != nil {
		t.Fatalf("%v, %v", built, err)
	}
	for _, part := range []string{filepath.Join(b.Dir, "table.3"), "topic table, partition 3"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	s = open(t, b) // which it could not be if it were still open
	if got := keys(t, s); !slices.Equal(got, []string{"a"}) {
		t.Errorf("keys %q", got)
	}
	check(t, s.Close())
}

func TestTendRunsFromTheOpeningToTheEnd(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	began, ended := make(chan *tablestore.Store, 2), make(chan struct{}, 2)
	b.Tend = func(ctx context.Context, s *tablestore.Store) {
		began <- s
		<-s.Recovered()
		<-ctx.Done()
		for range 100_000 { // Close waits, and closes the store only then
			if _, err := s.Has("a"); err != nil {
				t.Error(err)
				break
			}
		}
		ended <- struct{}{}
	}
	s := open(t, b)
	if got := <-began; got != s || got.Partition != partition {
		t.Errorf("it got %v", got)
	}
	check(t, s.MarkRecovered(), s.Close())
	if len(ended) != 1 || len(began) != 0 {
		t.Errorf("it ran %d times, and again %d times, when the store was closed", len(ended), len(began))
	}

	b.Tend = nil
	late := open(t, b)
	check(t, late.Close())
	_ = late.MarkRecovered() // goka may do so
	select {
	case <-late.Recovered():
		t.Error("a store that was closed has recovered")
	default:
	}
}

// How far a recovery is follows from what is written to the store alone.
func TestRecoveryOfAStore(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir()) // of a changelog with 10 records
	wants := func(s *tablestore.Store, read, left int64) {
		t.Helper()
		if gotRead, gotLeft := s.Recovery(); gotRead != read || gotLeft != left {
			t.Errorf("%d records read and %d left, want %d and %d", gotRead, gotLeft, read, left)
		}
	}
	s := open(t, b)
	wants(s, 0, 10)
	check(t, s.SetOffset(0), s.SetOffset(4)) // those between are compacted
	wants(s, 2, 5)
	check(t, s.SetOffset(9))
	wants(s, 3, 0)
	check(t, s.MarkRecovered(), s.MarkRecovered(), s.SetOffset(10), s.Close()) // goka recovers again after an error
	wants(s, 3, 0)
	if n := s.Next(); n != 11 {
		t.Errorf("the next record is %d, want 11", n)
	}

	b.End = func(string, int32) (int64, error) { return 15, nil }
	s = open(t, b)
	wants(s, 0, 4)
	check(t, s.SetOffset(11))
	wants(s, 1, 3)
	check(t, s.Close())
}

func TestPace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		read, left int64
		want       []any
	}{
		{500, 4510, []any{"records_per_second", int64(50), "time_left", "1m30s"}},
		{5, 100, []any{"records_per_second", int64(0)}},
		{-10, 100, []any{"records_per_second", int64(0)}}, // some stores that had read were closed
	} {
		if got := tablestore.Pace(test.read, 10*time.Second, test.left); !slices.Equal(got, test.want) {
			t.Errorf("%d read and %d left: %v, want %v", test.read, test.left, got, test.want)
		}
	}
}

// A reading at any pace holds no closing up, and tells that it was cut.
func TestIteratorsEndWithTheirStore(t *testing.T) {
	t.Parallel()
	s := open(t, stores(t, t.TempDir()))
	check(t, s.Set("a", []byte("1")), s.Set("b", []byte("2")), s.Set("c", []byte("3")))
	it, err := s.Iterator()
	check(t, err)
	if !it.Next() {
		t.Fatal("there is no row")
	}
	key := it.Key()
	check(t, s.Close())
	if value, err := it.Value(); string(key) != "a" || string(it.Key()) != "a" || string(value) != "1" || err != nil {
		t.Errorf("the row at hand is %q %q, %v", it.Key(), value, err)
	}
	if it.Next() || it.Seek([]byte("b")) {
		t.Errorf("it goes on with %q", it.Key())
	}
	if err := it.Err(); !errors.Is(err, leveldb.ErrClosed) {
		t.Errorf("it has ended by %v", err)
	}
	it.Release()
	if _, err := s.Iterator(); !errors.Is(err, leveldb.ErrClosed) {
		t.Errorf("another one begins: %v", err)
	}
}

func TestIteratorsAmongWritesUntilTheEnd(t *testing.T) {
	t.Parallel()
	s := open(t, stores(t, t.TempDir()))
	const stable = 500
	for n := range stable {
		check(t, s.Set(fmt.Sprintf("stable-%03d", n), []byte("row")))
	}
	var all sync.WaitGroup
	ended := make(chan struct{})
	for user := range 2 {
		all.Go(func() {
			for n := 0; ; n++ {
				if s.Set(fmt.Sprintf("stable-%03d-%d", n%stable, user), []byte("other")) != nil {
					return
				}
			}
		})
		all.Go(func() {
			for whole := 0; ; whole++ {
				it, err := s.Iterator()
				if err != nil {
					return
				}
				seen := 0
				for it.Next() {
					if value, _ := it.Value(); string(value) == "row" {
						seen++
					}
				}
				switch err := it.Err(); {
				case err == nil && seen != stable:
					t.Errorf("a reading has %d of %d rows", seen, stable)
				case err != nil && !errors.Is(err, leveldb.ErrClosed):
					t.Error(err)
				}
				it.Release()
				if whole == 2 && user == 0 {
					close(ended)
				}
			}
		})
	}
	<-ended
	check(t, s.Close())
	all.Wait()
}
