package tablestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"kafkagrpc/internal/tablestore"
)

// crashes copies the folder of a store in the middle of what is done to its files, as a SIGKILL would leave it.
type crashes struct {
	t      *testing.T
	path   string
	mu     sync.Mutex // one change at a time: also the compaction stands still for a copy
	dice   *rand.Rand
	on     bool
	copies []string // the parents
}

// at is called before a change, or in the middle of one, with mu held.
func (c *crashes) at() {
	if !c.on || c.dice.IntN(10) != 0 {
		return
	}
	dir := c.t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, filepath.Base(c.path)), os.DirFS(c.path)); err != nil {
		c.t.Error(err)
	}
	c.copies = append(c.copies, dir)
}

func (c *crashes) set(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = on
}

type crashFiles struct {
	storage.Storage
	c *crashes
}

func (f crashFiles) change(do func() error) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.at()
	return do()
}

func (f crashFiles) SetMeta(fd storage.FileDesc) error {
	return f.change(func() error { return f.Storage.SetMeta(fd) })
}

func (f crashFiles) Remove(fd storage.FileDesc) error {
	return f.change(func() error { return f.Storage.Remove(fd) })
}

func (f crashFiles) Rename(from, to storage.FileDesc) error {
	return f.change(func() error { return f.Storage.Rename(from, to) })
}

func (f crashFiles) Create(fd storage.FileDesc) (w storage.Writer, err error) {
	err = f.change(func() error { w, err = f.Storage.Create(fd); return err })
	return crashFile{w, f.c}, err
}

type crashFile struct {
	storage.Writer
	c *crashes
}

func (f crashFile) Write(p []byte) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	n, err := f.Writer.Write(p[:f.c.dice.IntN(len(p)+1)])
	if err != nil {
		return n, err
	}
	f.c.at()
	rest, err := f.Writer.Write(p[n:])
	return n + rest, err
}

const crashKeys = 30

// crashKey is a long one: the tables of few small ones would be none.
func crashKey(n int) string { return fmt.Sprint(n, " ", strings.Repeat("key", 100)) }

// rowsOf is by key the change that has made its row, 0 for none.
func rowsOf(t *testing.T, s *tablestore.Store) (rows [crashKeys]int) {
	t.Helper()
	check(t, each(s, func(key, value []byte) bool {
		var k int
		_, errKey := fmt.Sscan(string(key), &k)
		_, errRow := fmt.Sscan(string(value), &rows[k])
		check(t, errKey, errRow)
		return true
	}))
	return rows
}

// Whenever the process is killed, the store is what it was after one of the changes, and of the changelog it has all up to its offset.
func TestKilledStoreHasAllUpToItsOffset(t *testing.T) {
	t.Parallel()
	const changes = 3000
	copies, journals, given := 0, 0, false
	for seed := range uint64(5) {
		c := &crashes{t: t, dice: rand.New(rand.NewPCG(3, seed))}
		b := stores(t, t.TempDir())
		var log strings.Builder
		b.Log = slog.New(slog.NewTextHandler(&log, nil))
		b.End = func(string, int32) (int64, error) { return plenty, nil }
		b.Partitions = 1000 // the least buffers and segments
		c.path = filepath.Join(b.Dir, "table.3")
		tablestore.PutOn(c.path, func(s storage.Storage) storage.Storage { return crashFiles{s, c} })
		s := open(t, b)
		check(t, s.MarkRecovered())
		c.set(true)
		dice := rand.New(rand.NewPCG(4, seed))
		late := dice.IntN(3) // after how many further changes the changelog has one
		var state [crashKeys]int
		history := [][crashKeys]int{state}
		for change := 1; change <= changes; change++ {
			key := dice.IntN(crashKeys)
			if dice.IntN(5) == 0 {
				state[key] = 0
				check(t, s.Delete(crashKey(key)))
			} else {
				state[key] = change
				check(t, s.Set(crashKey(key), fmt.Appendf(nil, "%d %s", change, make([]byte, dice.IntN(1<<(4+dice.IntN(12)))))))
			}
			history = append(history, state)
			if change > late {
				check(t, s.SetOffset(int64(change-late))) // the offset of a change is its number
			}
			if dice.IntN(200) == 0 && rowsOf(t, s) != state {
				t.Errorf("seed %d: after change %d there are other rows", seed, change)
			}
		}
		c.set(false)
		check(t, s.Close())
		s = open(t, b)
		if at, err := s.GetOffset(-1); at != int64(changes-late) || err != nil || rowsOf(t, s) != state {
			t.Errorf("seed %d: the store that was closed has offset %d, %v", seed, at, err)
		}
		check(t, s.Close())
		for n, dir := range c.copies {
			found, err := filepath.Glob(filepath.Join(dir, "table.3", "*.log"))
			check(t, err)
			journals = max(journals, len(found))
			files, err := filepath.Glob(filepath.Join(dir, "table.3", "rows", "*.ldb"))
			check(t, err)
			given = given || len(files) > 0 && filepath.Base(files[0]) != "000001.ldb"
			b.Dir = dir
			s := open(t, b)
			offset, err := s.GetOffset(0)
			check(t, err)
			if !slices.Contains(history[offset:], rowsOf(t, s)) {
				t.Errorf("seed %d, copy %d: it has offset %d, and is as after none of the changes since", seed, n, offset)
			}
			check(t, s.Close())
		}
		if log.Len() > 0 {
			t.Errorf("seed %d: %s", seed, &log)
		}
		copies += len(c.copies)
	}
	if copies < 60 || journals < 2 || !given {
		t.Errorf("only %d copies, with up to %d journals; a segment was given up: %t", copies, journals, given)
	}
}

// hanging is a disk that takes nothing until it is opened, and then answers with err.
type hanging struct {
	storage.Storage
	on   *atomic.Bool
	gate chan struct{}
	err  error
}

func (h hanging) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := h.Storage.Create(fd)
	return hangingFile{w, h}, err
}

type hangingFile struct {
	storage.Writer
	hanging hanging
}

func (f hangingFile) Write(p []byte) (int, error) {
	if f.hanging.on.Load() {
		<-f.hanging.gate
		if f.hanging.err != nil {
			return 0, f.hanging.err
		}
	}
	return f.Writer.Write(p)
}

// While the disk hangs a store takes rows up to a bound. What it has is read, and offsets are taken, without it.
func TestRowsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	full := &os.PathError{Op: "write", Path: "somewhere", Err: syscall.ENOSPC}
	for _, test := range []struct {
		name string
		err  error
		keep bool
	}{{"it goes on", nil, false}, {"it is full", full, false}, {"it is full, and rows are kept", full, true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := stores(t, t.TempDir())
			b.Keep = test.keep
			failed := false
			b.Failed = func(error) { failed = true }
			synctest.Test(t, func(t *testing.T) {
				disk := hanging{on: new(atomic.Bool), gate: make(chan struct{}), err: test.err}
				tablestore.PutOn(filepath.Join(b.Dir, "table.3"), func(s storage.Storage) storage.Storage {
					disk.Storage = s
					return disk
				})
				s := open(t, b)
				check(t, s.MarkRecovered())
				disk.on.Store(true)
				const rows = 2000
				var taken atomic.Int64
				var err error
				done := make(chan struct{})
				go func() {
					defer close(done)
					for n := range rows {
						if err = s.Set(fmt.Sprint(n), make([]byte, 1000)); err != nil {
							return
						}
						taken.Store(int64(n + 1))
					}
				}()
				synctest.Wait()
				n := taken.Load()
				if n < 100 || n > 300 {
					t.Errorf("%d rows of 1000 bytes wait", n)
				}
				for key := range n {
					if row, err := s.Get(fmt.Sprint(key)); len(row) != 1000 || err != nil {
						t.Fatalf("row %d of %d has %d bytes, %v", key, n, len(row), err)
					}
				}
				check(t, s.SetOffset(9))
				if at, err := s.GetOffset(-1); at != 9 || err != nil {
					t.Errorf("offset %d, %v", at, err)
				}
				close(disk.gate)
				<-done
				disk.on.Store(false)
				synctest.Wait()
				switch want := test.err == nil || test.keep; {
				case want != (err == nil) || want != (taken.Load() == rows):
					t.Errorf("%d rows were taken: %v", taken.Load(), err)
				case err != nil && !errors.Is(err, test.err):
					t.Error(err)
				case failed != (test.err != nil):
					t.Errorf("it has failed: %t", failed)
				}
				check(t, s.Close())
				if err := s.Set("late", nil); !errors.Is(err, leveldb.ErrClosed) {
					t.Errorf("a row after the end: %v", err)
				}
				if err := s.SetOffset(9); !errors.Is(err, leveldb.ErrClosed) {
					t.Errorf("an offset after the end: %v", err)
				}
				time.Sleep(2 * time.Second) // of the bubble's clock: LevelDB's last goroutine ends
			})
		})
	}
}

// A row is on the disk soon after it was set, also when nothing follows.
func TestRowIsWrittenByItself(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		s := open(t, b)
		journal := func() (size int64) {
			found, err := filepath.Glob(filepath.Join(b.Dir, "table.3", "*.log"))
			check(t, err)
			for _, name := range found {
				info, err := os.Stat(name)
				check(t, err)
				size += info.Size()
			}
			return size
		}
		check(t, s.Set("a", bytes.Repeat([]byte("x"), 100)))
		synctest.Wait()
		if n := journal(); n != 0 {
			t.Errorf("%d bytes were written at once", n)
		}
		time.Sleep(25 * time.Millisecond)
		synctest.Wait()
		row := journal()
		if row < 100 {
			t.Errorf("%d bytes are written after 25 ms", row)
		}
		check(t, s.SetOffset(5))
		time.Sleep(25 * time.Millisecond)
		synctest.Wait()
		if n := journal(); n <= row {
			t.Error("the offset is not written after 25 ms")
		}
		check(t, s.Close())
		time.Sleep(2 * time.Second) // LevelDB's last goroutine ends
	})
}

// A store that has its rows already notes their offsets, as far as the broker tells them.
func TestConfirmOfRowsThatTheStoreHas(t *testing.T) {
	t.Parallel()
	s := open(t, stores(t, t.TempDir()))
	check(t, s.Set("a", []byte("2")), s.Confirm("a", []byte("1"), 5), s.Confirm("a", []byte("2"), -1))
	row, err := s.Get("a")
	at, errAt := s.GetOffset(-1)
	if check(t, err, errAt); string(row) != "2" || at != 5 {
		t.Errorf("row %q, offset %d", row, at)
	}
	check(t, s.Close())
}

// What cannot be written at the end is an error, and the offset stays before it.
func TestCloseOnAFullDisk(t *testing.T) {
	t.Parallel()
	d := &disk{space: plenty, err: syscall.ENOSPC}
	b, _, failures := onDisk(t, d)
	s := open(t, b)
	check(t, s.Set("a", []byte("1")), s.SetOffset(3), s.MarkRecovered())
	fresh := filepath.Join(b.Dir, "table.3", "up-to-date")
	check(t, os.WriteFile(fresh, []byte("as before"), 0o644))
	d.set(0)
	check(t, s.Set("a", random(100<<10)), s.SetOffset(4))
	if err := s.Close(); err != nil { // else it has failed before
		named(t, err, b.Dir, syscall.ENOSPC, "make space")
	}
	named(t, <-failures, b.Dir, syscall.ENOSPC, "make space")
	if text, err := os.ReadFile(fresh); string(text) != "as before" || err != nil {
		t.Errorf("it is up to date: %s, %v", text, err)
	}
	check(t, os.WriteFile(fresh, []byte(time.Now().UTC().Format(time.RFC3339)), 0o644))
	d.set(plenty)
	s = open(t, b)
	at, err := s.GetOffset(-1)
	row, errRow := s.Get("a")
	if check(t, err, errRow); at != 3 || string(row) != "1" {
		t.Errorf("offset %d, row %q", at, row)
	}
	check(t, s.Close())
}

// Those who use a store at once see each their own rows at once, and all what was there before.
func TestStoreIsUsedByMany(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	s := open(t, b)
	check(t, s.MarkRecovered())
	const users, rounds = 4, 2000
	var all sync.WaitGroup
	for user := range users {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(5, uint64(user)))
			for round := range rounds {
				key := fmt.Sprint(user, "-", dice.IntN(50))
				row := fmt.Appendf(nil, "%d %s", round, make([]byte, dice.IntN(300)))
				err := errors.Join(s.Set(key, row), s.SetOffset(int64(round)))
				got, errGet := s.Get(key)
				if string(got) != string(row) || err != nil || errGet != nil {
					t.Errorf("%s: it is not the row that was set: %v, %v", key, err, errGet)
					return
				}
				if dice.IntN(4) == 0 {
					err := s.Delete(key)
					has, errHas := s.Has(key)
					if has || err != nil || errHas != nil {
						t.Errorf("%s: it is there: %v, %v", key, err, errHas)
						return
					}
				}
				if dice.IntN(100) == 0 {
					check(t, s.Set(key, []byte("last")))
					it, err := s.IteratorWithRange([]byte(key), nil)
					check(t, err)
					if !it.Next() || string(it.Key()) != key {
						t.Errorf("%s: an iterator lacks it", key)
					}
					if row, err := it.Value(); string(row) != "last" || err != nil {
						t.Errorf("%s: an iterator has %q, %v", key, row, err)
					}
					check(t, it.Err())
					it.Release()
				}
			}
		})
	}
	all.Wait()
	check(t, s.Close())
}

// A store that was written with LevelDB's own options goes on.
func TestStoreOfOtherOptions(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	check(t, open(t, b).Close())
	path := filepath.Join(b.Dir, "table.3")
	db, err := leveldb.OpenFile(path, nil)
	check(t, err)
	const rows = 20_000
	row := strings.Repeat("row ", 250) // it is compressed
	for n := range rows {
		check(t, db.Put(fmt.Appendf(nil, "k/%d", n), []byte(row), nil))
	}
	check(t, db.Put([]byte("__offset"), []byte("7"), nil), db.Close())
	tables, err := filepath.Glob(filepath.Join(path, "*.ldb"))
	if check(t, err); len(tables) < 2 {
		t.Fatalf("there are the tables %v", tables)
	}
	s := open(t, b)
	if at, err := s.GetOffset(-1); at != 7 || err != nil {
		t.Fatalf("offset %d, %v", at, err)
	}
	if got := keys(t, s); len(got) != rows {
		t.Fatalf("there are %d rows", len(got))
	}
	for n := range rows {
		if got, err := s.Get(fmt.Sprint(n)); string(got) != row || err != nil {
			t.Fatalf("row %d has %d bytes, %v", n, len(got), err)
		}
	}
	if got, err := s.Get("none"); got != nil || err != nil {
		t.Errorf("a row that is not there has %d bytes, %v", len(got), err)
	}
	check(t, s.Close())
}
