package tablestore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
)

// Held is a store as the owner of its partition sees it where rows are written in transactions: what it sets is seen through Held alone, and the store
// gets it, with its offset, when it is confirmed. So a transaction that is aborted, and a process that ends, leave nothing of it: what is held is in
// memory only.
//
// Confirm is safe for concurrent use; all else is for one goroutine at a time, that of the partition. How much is held at once is bound by whoever
// sends it to the changelog.
type Held struct {
	store *Store

	// All are guarded by Store.mem. While looking is true nobody changes rows, so that the goroutine of the partition reads them without it.
	rows    map[string]heldRow
	lanes   map[string][]place // of the marks of rows, by lane, in their order
	counts  map[string]int64   // of those, by what their lanes are counted as
	fresh   bool               // the store was given rows with marks that it may not have counted
	looking bool
	over    []string // the keys of what was confirmed while looking is true

	confirmed chan struct{} // closed by the next Confirm; nil: nobody waits for that
}

// heldRow is the last of the changes of a key.
type heldRow struct {
	row     []byte // nil: it is removed
	marks   []Mark
	changes int // of the key that are not confirmed
}

// Held begins to hold back what is set through it, of a store that has recovered. Nothing else may set rows of the store from then on, nor another
// Held that is in use.
func (s *Store) Held() *Held {
	h := &Held{store: s, rows: make(map[string]heldRow), lanes: make(map[string][]place), counts: make(map[string]int64), fresh: true}
	s.mem.Lock()
	defer s.mem.Unlock()
	s.held = h
	return h
}

// AwaitTime is how long who asks for a key may wait for the end of a transaction, which takes some milliseconds mostly.
const AwaitTime = time.Second

// Await waits while changes of a key are held, as for a moment after their transaction is committed: who has read of it elsewhere finds it here then. It
// returns in any case when ctx ends. Not for the goroutine of the partition.
func (s *Store) Await(ctx context.Context, key string) {
	for {
		s.mem.Lock()
		h := s.held
		if h == nil {
			s.mem.Unlock()
			return
		}
		if _, is := h.rows[key]; !is {
			s.mem.Unlock()
			return
		}
		if h.confirmed == nil {
			h.confirmed = make(chan struct{})
		}
		confirmed := h.confirmed
		s.mem.Unlock()
		select {
		case <-confirmed:
		case <-s.tending.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// Get answers the row of a key, nil where there is none. It must not be changed.
func (h *Held) Get(key string) ([]byte, error) {
	h.store.mem.Lock()
	held, is := h.rows[key]
	h.store.mem.Unlock()
	if is {
		return held.row, nil
	}
	return h.store.Get(key) // also what was confirmed between the two
}

// Set holds a row, which is not changed later. Where the disk cannot keep up with what is confirmed, it waits.
func (h *Held) Set(key string, row []byte) error {
	if row == nil {
		row = []byte{}
	}
	return h.hold(key, row)
}

// Delete holds the removal of a row. It waits as Set does.
func (h *Held) Delete(key string) error { return h.hold(key, nil) }

func (h *Held) hold(key string, row []byte) error {
	s := h.store
	var marks []Mark
	if row != nil && s.marks.of != nil {
		marks = s.marks.of(row)
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	if err := s.awaitRoom(); err != nil {
		return err
	}
	before := h.rows[key]
	h.unmark(key, before.marks)
	h.rows[key] = heldRow{row, marks, before.changes + 1}
	for _, m := range marks {
		p := place{m.At, key}
		i, _ := slices.BinarySearchFunc(h.lanes[m.Lane], p, place.compare)
		h.lanes[m.Lane] = slices.Insert(h.lanes[m.Lane], i, p)
		h.counts[counted(m.Lane)]++
	}
	return nil
}

// unmark takes the marks of a row away. The caller holds mem.
func (h *Held) unmark(key string, marks []Mark) {
	for _, m := range marks {
		in := h.lanes[m.Lane]
		i, _ := slices.BinarySearchFunc(in, place{m.At, key}, place.compare)
		if i == 0 {
			in[0] = place{}
			in = in[1:] // mostly: they come and go in their order
		} else {
			in = slices.Delete(in, i, i+1)
		}
		if h.lanes[m.Lane] = in; len(in) == 0 {
			delete(h.lanes, m.Lane)
		}
		name := counted(m.Lane)
		if h.counts[name]--; h.counts[name] == 0 {
			delete(h.counts, name)
		}
	}
}

// Confirm gives a change to the store, with its offset in the changelog; one below 0 is not known. The changes of all keys are confirmed in the order
// in which they were held, each with its row, nil for a removal: the offset says that the store has all before it. It never waits for a file. Where the
// store takes no rows, the change stays held.
func (h *Held) Confirm(key string, row []byte, offset int64) error {
	s := h.store
	s.mem.Lock()
	defer s.mem.Unlock()
	if err := s.refusal(); err != nil {
		return err
	}
	s.take(key, row)
	if offset >= 0 {
		s.reach(offset)
	}
	if h.looking {
		h.over = append(h.over, key)
	} else {
		h.forget(key)
	}
	h.tell()
	return nil
}

// tell wakes who waits for a key. The caller holds mem.
func (h *Held) tell() {
	if h.confirmed != nil {
		close(h.confirmed)
		h.confirmed = nil
	}
}

// forget counts off a change of a key, and lets it go with the last one. The caller holds mem.
func (h *Held) forget(key string) {
	held, is := h.rows[key]
	if held.changes--; !is || held.changes > 0 {
		if is {
			h.rows[key] = held
		}
		return
	}
	h.fresh = h.fresh || len(held.marks) > 0
	h.unmark(key, held.marks)
	delete(h.rows, key)
}

// look keeps what is held as it is until looked is called: it lies over the store as it is at any moment between the two, whatever is confirmed meanwhile.
func (h *Held) look() {
	h.store.mem.Lock()
	defer h.store.mem.Unlock()
	h.looking = true
}

func (h *Held) looked() {
	h.store.mem.Lock()
	defer h.store.mem.Unlock()
	h.looking = false
	for _, key := range h.over {
		h.forget(key)
	}
	clear(h.over)
	h.over = h.over[:0]
	h.tell()
}

// Ends are the keys of the first and the last row that are marked in a lane, and the number of the last; ok is false where there are none.
func (h *Held) Ends(lane string) (first, last string, at int64, ok bool, err error) {
	h.look()
	defer h.looked()
	from, to, ok, err := h.store.ends(lane, func(key []byte) bool { _, is := h.rows[string(key)]; return is })
	if held := h.lanes[lane]; len(held) > 0 {
		f, t := held[0], held[len(held)-1]
		if !ok || f.compare(from) < 0 {
			from = f
		}
		if !ok || t.compare(to) > 0 {
			to = t
		}
		ok = true
	}
	return from.key, to.key, to.at, ok, err
}

// Count is how many rows are marked in a lane. It reads and writes files only where there are some in the store: then it looks for those whose keys are held.
func (h *Held) Count(lane string) int64 {
	s, name := h.store, counted(lane)
	s.mem.Lock()
	n := h.counts[name]
	some := s.marks.counts[name] > 0 || h.fresh
	h.looking, h.fresh = some, false
	s.mem.Unlock()
	if !some {
		return n
	}
	defer h.looked()
	_ = s.flush() // an error is a failure, which is told
	s.writing.Lock()
	defer s.writing.Unlock() // what is counted is what LevelDB has until then
	n += s.Count(lane)
	for key := range h.rows {
		row, err := s.db.row([]byte(keyPrefix + key))
		if err != nil {
			if !errors.Is(err, leveldb.ErrNotFound) {
				_ = s.note(err) // a corruption is told; the row counts, as lines are looked for where any may be
			}
			continue
		}
		for _, m := range s.marks.of(row) {
			if counted(m.Lane) == name {
				n--
			}
		}
	}
	return n
}
