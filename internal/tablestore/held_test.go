package tablestore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
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
	"pgregory.net/rapid"

	"kafkagrpc/internal/tablestore"
)

// heldStore opens a store that has recovered, and what its owner sees of it.
func heldStore(t rapid.TB, b tablestore.Stores) (*tablestore.Store, *tablestore.Held) {
	t.Helper()
	s := open(t, b)
	check(t, s.MarkRecovered())
	return s, s.Held()
}

// getter is a store, or what is held over it.
type getter interface {
	Get(key string) ([]byte, error)
}

// has checks the rows of keys, given as "a=1"; "a" is one without a row.
func has(t rapid.TB, in getter, rows ...string) {
	t.Helper()
	for _, row := range rows {
		key, want, there := strings.Cut(row, "=")
		got, err := in.Get(key)
		if check(t, err); string(got) != want || (got != nil) != there {
			t.Errorf("%T: the row of %s is %q, want %s", in, key, got, row)
		}
	}
}

func TestHeldRowsAreSeenByTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	b.Marks = marksOf
	s, h := heldStore(t, b)
	sees := func(offset int64, rows string, marked ...string) {
		t.Helper()
		var got []string
		check(t, each(s, func(key, row []byte) bool { got = append(got, fmt.Sprintf("%s=%s", key, row)); return true }))
		it, err := s.Iterator()
		check(t, err)
		n := 0
		for it.Next() {
			n++
		}
		check(t, it.Err())
		it.Release()
		if strings.Join(got, " ") != rows || n != len(got) {
			t.Errorf("the store has the rows %q, and an iterator %d, want %s", got, n, rows)
		}
		if at, err := s.GetOffset(-1); at != offset || err != nil {
			t.Errorf("it has offset %d, %v, want %d", at, err, offset)
		}
		if lanes := s.LanesNow(); !slices.Equal(lanes, marked) {
			t.Errorf("it has the lanes %q, want %q", lanes, marked)
		}
		for _, lane := range []string{"l", "m"} {
			first, _, _, ok, err := s.Ends(lane)
			var firsts []string
			check(t, err, s.Firsts(lane, func(key []byte) bool { firsts = append(firsts, string(key)); return true }))
			want := slices.Contains(marked, lane)
			if ok != want || (len(firsts) > 0) != want || ok && !slices.Equal(firsts, []string{first}) || (s.Count(lane) > 0) != want {
				t.Errorf("lane %s: %q is first, of %q", lane, first, firsts)
			}
		}
	}
	check(t, h.Set("a", []byte("l:1")), h.Set("b", nil), h.Delete("c"))
	sees(-1, "")
	has(t, s, "a", "b", "c")
	has(t, h, "a=l:1", "b=", "c")
	if is, err := s.Has("a"); is || err != nil {
		t.Errorf("the store has it: %v", err)
	}

	check(t, h.Confirm("a", []byte("l:1"), 3))
	sees(3, "a=l:1", "l")
	check(t, h.Confirm("b", []byte{}, 4), h.Confirm("c", nil, -1)) // the broker did not tell the offset
	sees(4, "a=l:1 b=", "l")
	has(t, h, "a=l:1", "b=", "c")

	// Several changes of a key are confirmed one after the other.
	check(t, h.Set("a", []byte("m:2")), h.Delete("a"), h.Set("b", []byte("l:2")), h.Set("a", []byte("m:3")))
	sees(4, "a=l:1 b=", "l")
	has(t, h, "a=m:3", "b=l:2")
	check(t, h.Confirm("a", []byte("m:2"), 5))
	sees(5, "a=m:2 b=", "m")
	has(t, h, "a=m:3")
	check(t, h.Confirm("a", nil, 6))
	sees(6, "b=")
	has(t, h, "a=m:3")
	check(t, h.Confirm("b", []byte("l:2"), 7))
	sees(7, "b=l:2", "l")
	check(t, h.Confirm("a", []byte("m:3"), 8))
	sees(8, "a=m:3 b=l:2", "l", "m")

	// What is not confirmed is gone with the one who held it, or with the store.
	check(t, h.Set("a", []byte("lost")), h.Set("d", []byte("lost")), h.Delete("b"))
	h = s.Held()
	has(t, h, "a=m:3", "b=l:2", "d")
	check(t, h.Set("a", []byte("lost")), h.Set("d", []byte("lost")), h.Delete("b"), s.Close())
	s = open(t, b)
	sees(8, "a=m:3 b=l:2", "l", "m")
	check(t, s.Close())
}

// heldChange is one that is not confirmed; the row is "" for a removal.
type heldChange struct{ key, row string }

// heldModel is what a store should have, and its owner see.
type heldModel struct {
	seen, confirmed map[string]string
	waits           []heldChange
	offset          int64 // of the last confirmed change whose offset was told
	next            int64
}

func newHeldModel() *heldModel {
	return &heldModel{seen: map[string]string{}, confirmed: map[string]string{}, offset: -1}
}

func (c heldChange) in(rows map[string]string) {
	if c.row == "" {
		delete(rows, c.key)
	} else {
		rows[c.key] = c.row
	}
}

func (c heldChange) value() []byte {
	if c.row == "" {
		return nil
	}
	return []byte(c.row)
}

func (c heldChange) hold(h *tablestore.Held) error {
	if c.row == "" {
		return h.Delete(c.key)
	}
	return h.Set(c.key, []byte(c.row))
}

// marksIn are those of rows in lanes, by at and key.
func marksIn(rows map[string]string, is func(lane string) bool) (all []string) {
	for key, row := range rows {
		for _, m := range marksOf([]byte(row)) {
			if is(m.Lane) {
				all = append(all, fmt.Sprintf("%03d %s", m.At, key))
			}
		}
	}
	slices.Sort(all)
	return all
}

var heldLanes = []string{"a", "b", "line\x00x", "line\x00y", "line"}

// wantEnds compares the ends of a lane, and the count of it, with those of rows.
func wantEnds(t rapid.TB, h *tablestore.Held, rows map[string]string, lane string) {
	t.Helper()
	in := marksIn(rows, func(l string) bool { return l == lane })
	first, last, at, ok, err := h.Ends(lane)
	check(t, err)
	want, got := "none", "none"
	if len(in) > 0 {
		want = in[0][4:] + " to " + in[len(in)-1]
	}
	if ok {
		got = fmt.Sprintf("%s to %03d %s", first, at, last)
	}
	if got != want {
		t.Fatalf("lane %q: from %s, want %s", lane, got, want)
	}
}

func wantCount(t rapid.TB, h *tablestore.Held, rows map[string]string, lane string) {
	t.Helper()
	counted, _, _ := strings.Cut(lane, "\x00")
	want := marksIn(rows, func(l string) bool { name, _, _ := strings.Cut(l, "\x00"); return name == counted })
	if n := h.Count(lane); n != int64(len(want)) {
		t.Fatalf("lane %q: %d rows, want %q", lane, n, want)
	}
}

// randomChange is one of few keys; most rows have no mark.
func randomChange(n func(int) int) heldChange {
	c := heldChange{key: fmt.Sprint("k", n(8))}
	switch n(6) {
	case 0:
	case 1, 2:
		c.row = fmt.Sprint("plain ", n(100))
	default:
		for i := range 1 + n(2) {
			c.row += fmt.Sprintf("%s:%d ", heldLanes[(n(len(heldLanes))+i)%len(heldLanes)], n(6)*2+i) // no mark twice
		}
	}
	return c
}

// Whatever is set, confirmed and lost, in whatever order, both sides see what they should.
func TestHeldIsAsItsModel(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	b.Marks = marksOf
	rounds := 0
	rapid.Check(t, func(t *rapid.T) {
		rounds++
		b := b
		b.Dir = filepath.Join(b.Dir, fmt.Sprint(rounds))
		s, h := heldStore(t, b)
		defer func() { check(t, s.Close()) }()
		m := newHeldModel()
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }
		lane := rapid.SampledFrom(heldLanes)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				c := randomChange(draw)
				check(t, c.hold(h))
				c.in(m.seen)
				m.waits = append(m.waits, c)
			},
			"confirm": func(t *rapid.T) {
				for range min(1+draw(4), len(m.waits)) {
					c, offset := m.waits[0], m.next
					if draw(5) == 0 {
						offset = -1
					} else {
						m.offset = offset
					}
					check(t, h.Confirm(c.key, c.value(), offset))
					c.in(m.confirmed)
					m.waits, m.next = m.waits[1:], m.next+1
				}
			},
			"ends":  func(t *rapid.T) { wantEnds(t, h, m.seen, lane.Draw(t, "lane")) },
			"count": func(t *rapid.T) { wantCount(t, h, m.seen, lane.Draw(t, "lane")) },
			"rows": func(t *rapid.T) {
				for n := range 8 {
					key := fmt.Sprint("k", n)
					for side, in := range map[getter]map[string]string{h: m.seen, s: m.confirmed} {
						if row, there := in[key]; there {
							has(t, side, key+"="+row)
						} else {
							has(t, side, key)
						}
					}
				}
			},
			"store": func(t *rapid.T) { wantStore(t, s, m) },
			"abort": func(*rapid.T) {
				h = s.Held()
				m.seen, m.waits = maps.Clone(m.confirmed), nil
			},
			"reopen": func(t *rapid.T) {
				if draw(8) > 0 {
					return // it takes long
				}
				check(t, s.Close())
				s, h = heldStore(t, b)
				m.seen, m.waits = maps.Clone(m.confirmed), nil
				wantStore(t, s, m)
			},
		})
	})
}

// wantStore compares what a store shows to everyone with what is confirmed.
func wantStore(t rapid.TB, s *tablestore.Store, m *heldModel) {
	t.Helper()
	rows := map[string]string{}
	check(t, each(s, func(key, row []byte) bool { rows[string(key)] = string(row); return true }))
	if !maps.Equal(rows, m.confirmed) {
		t.Fatalf("the store has %v, want %v", rows, m.confirmed)
	}
	if at, err := s.GetOffset(-1); at != m.offset || err != nil {
		t.Fatalf("the store has offset %d, %v, want %d", at, err, m.offset)
	}
	for _, lane := range heldLanes {
		var marked []string
		check(t, s.Marked(lane, func(at int64, key []byte, _ int) bool {
			marked = append(marked, fmt.Sprintf("%03d %s", at, key))
			return true
		}))
		if want := marksIn(m.confirmed, func(l string) bool { return l == lane }); !slices.Equal(marked, want) {
			t.Fatalf("lane %q of the store has %q, want %q", lane, marked, want)
		}
	}
}

// What the owner of a partition sees depends on nothing but what it has set, whenever that is confirmed and written.
func TestHeldIsUsedWhileOthersConfirmAndRead(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	b.Marks = marksOf
	s, h := heldStore(t, b)
	m := newHeldModel()
	waits := make(chan heldChange, 100)
	done := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		defer close(done)
		for c := range waits {
			if err := h.Confirm(c.key, c.value(), m.next); err != nil {
				t.Error(err)
			}
			c.in(m.confirmed)
			m.offset = m.next
			m.next++
		}
	})
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := each(s, func(_, row []byte) bool { return len(row) > 0 }); err != nil {
				t.Error(err)
			}
			s.Lanes()
		}
	})
	dice := rand.New(rand.NewPCG(7, 8))
	pad := strings.Repeat(" pad", 500) // it is written often
	for range 3000 {
		c := randomChange(dice.IntN)
		if c.row != "" {
			c.row += pad
		}
		check(t, c.hold(h))
		c.in(m.seen)
		waits <- c
		lane := heldLanes[dice.IntN(len(heldLanes))]
		switch dice.IntN(10) {
		case 0, 1, 2, 3:
			wantEnds(t, h, m.seen, lane)
		case 4:
			wantCount(t, h, m.seen, lane)
		default:
			key := fmt.Sprint("k", dice.IntN(8))
			if row, err := h.Get(key); string(row) != m.seen[key] || err != nil {
				t.Fatalf("%s: %q, want %q (%v)", key, row, m.seen[key], err)
			}
		}
	}
	close(waits)
	others.Wait()
	wantStore(t, s, m)
	for n := range 8 { // nothing is held any more
		key := fmt.Sprint("k", n)
		check(t, s.Set(key, []byte("other")))
		has(t, h, key+"=other")
	}
	check(t, s.Close())
}

// Whenever the process is killed, the store has what was confirmed up to its offset, and nothing else.
func TestKilledStoreHasNothingThatIsHeld(t *testing.T) {
	t.Parallel()
	const changes = 3000
	copies, held := 0, 0
	for seed := range uint64(3) {
		c := &crashes{t: t, dice: rand.New(rand.NewPCG(13, seed))}
		b := stores(t, t.TempDir())
		var log strings.Builder
		b.Log = slog.New(slog.NewTextHandler(&log, nil))
		b.End = func(string, int32) (int64, error) { return plenty, nil }
		b.Partitions = 1000 // the least buffer: it becomes tables, and a large transaction does at once
		c.path = filepath.Join(b.Dir, "table.3")
		tablestore.PutOn(c.path, func(s storage.Storage) storage.Storage { return crashFiles{s, c} })
		s, h := heldStore(t, b)
		c.set(true)
		dice := rand.New(rand.NewPCG(14, seed))
		var state [crashKeys]int
		history := [][crashKeys]int{state}
		var waits []heldChange
		for change := 1; change <= changes; change++ {
			key := dice.IntN(crashKeys)
			row := heldChange{key: fmt.Sprint(key)}
			state[key] = 0
			if dice.IntN(5) > 0 {
				state[key] = change
				row.row = fmt.Sprintf("%d %s", change, make([]byte, dice.IntN(1<<(4+dice.IntN(12)))))
			}
			history = append(history, state)
			check(t, row.hold(h))
			if waits = append(waits, row); dice.IntN(40) > 0 && change < changes {
				continue
			}
			for n, row := range waits { // a transaction is committed
				check(t, h.Confirm(row.key, row.value(), int64(change-len(waits)+n+1))) // the offset of a change is its number
			}
			waits = waits[:0]
		}
		state[0] = -1
		check(t, h.Set("0", []byte("-1"))) // and this one never is
		c.set(false)
		check(t, s.Close())
		c.copies = append(c.copies, b.Dir)
		for n, dir := range c.copies {
			b.Dir = dir
			s := open(t, b)
			offset, err := s.GetOffset(0)
			check(t, err)
			if rowsOf(t, s) != history[offset] {
				t.Errorf("seed %d, copy %d: it has offset %d, and other rows", seed, n, offset)
			}
			if offset == changes {
				held++
			}
			check(t, s.Close())
		}
		if log.Len() > 0 {
			t.Errorf("seed %d: %s", seed, &log)
		}
		copies += len(c.copies)
	}
	if copies < 15 || held < 3 {
		t.Errorf("only %d copies, of which %d have all", copies, held)
	}
}

// Who ends a transaction waits for no disk; who sets more rows does.
func TestConfirmWaitsForNoFile(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		disk := hanging{on: new(atomic.Bool), gate: make(chan struct{})}
		tablestore.PutOn(filepath.Join(b.Dir, "table.3"), func(s storage.Storage) storage.Storage {
			disk.Storage = s
			return disk
		})
		s, h := heldStore(t, b)
		disk.on.Store(true)
		const rows = 2000
		for n := range rows { // as long as nothing is confirmed, nobody waits
			check(t, h.Set(fmt.Sprint(n), make([]byte, 1000)))
		}
		check(t, h.Confirm("0", make([]byte, 1000), 0))
		time.Sleep(25 * time.Millisecond)
		synctest.Wait() // the writer hangs
		confirmed, set := make(chan error, 1), make(chan error, 1)
		go func() {
			var errs []error
			for n := 1; n < rows; n++ {
				errs = append(errs, h.Confirm(fmt.Sprint(n), make([]byte, 1000), int64(n)))
			}
			confirmed <- errors.Join(errs...)
		}()
		synctest.Wait()
		if len(confirmed) == 0 {
			t.Error("Confirm waits for the disk")
		}
		go func() { set <- h.Set("more", nil) }()
		synctest.Wait()
		if len(set) > 0 {
			t.Errorf("a row was held where %d wait for the disk", rows)
		}
		if row, err := s.Get(fmt.Sprint(rows - 1)); len(row) != 1000 || err != nil {
			t.Errorf("the last row has %d bytes, %v", len(row), err)
		}
		disk.on.Store(false)
		close(disk.gate)
		check(t, <-confirmed, <-set, h.Confirm("more", []byte{}, rows), s.Close())
		if err := h.Set("late", nil); !errors.Is(err, leveldb.ErrClosed) {
			t.Errorf("a row after the end: %v", err)
		}
		time.Sleep(2 * time.Second) // of the bubble's clock: LevelDB's last goroutine ends
	})
}

// A store that takes no rows says so to the one who holds some as to any other, and its offset stays behind what it lacks.
func TestHeldOfAStoreThatHasEnded(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep=", keep), func(t *testing.T) {
			t.Parallel()
			d := &disk{space: plenty, err: syscall.ENOSPC}
			b, _, failures := onDisk(t, d)
			b.Keep = keep
			s, h := heldStore(t, b)
			check(t, h.Set("a", []byte("1")), h.Confirm("a", []byte("1"), 3))
			if got := keys(t, s); len(got) != 1 { // it is written
				t.Fatalf("keys %q", got)
			}
			check(t, h.Set("b", random(100<<10)), h.Set("c", []byte("3")), h.Set("d", []byte("4")))
			d.set(0)
			check(t, h.Confirm("b", random(100<<10), 4))
			named(t, <-failures, b.Dir, syscall.ENOSPC, "make space")
			for name, err := range map[string]error{
				"Confirm": h.Confirm("c", []byte("3"), 5), "Set": h.Set("e", nil), "Delete": h.Delete("a"),
			} {
				if keep {
					check(t, err)
				} else if errors.Is(err, syscall.ENOSPC) {
					named(t, err, b.Dir, syscall.ENOSPC, "make space")
				} else {
					t.Errorf("%s: %v", name, err)
				}
			}
			has(t, h, "c=3", "d=4")
			if at, err := s.GetOffset(-1); at != 3 || err != nil {
				t.Errorf("offset %d, %v", at, err)
			}
			_ = s.Close()
			for name, err := range map[string]error{
				"Confirm": h.Confirm("d", []byte("4"), 6), "Set": h.Set("e", nil), "Delete": h.Delete("a"),
			} {
				if !errors.Is(err, leveldb.ErrClosed) {
					t.Errorf("%s after the end: %v", name, err)
				}
			}
			d.set(plenty)
			s = open(t, b)
			has(t, s, "a=1", "b", "c", "d", "e")
			if at, err := s.GetOffset(-1); at != 3 || err != nil {
				t.Errorf("offset %d, %v, in the files", at, err)
			}
			check(t, s.Close())
		})
	}
}
