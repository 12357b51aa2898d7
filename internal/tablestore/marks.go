package tablestore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// Few rows of a table are to be found by something else than their key, and among millions of others. Each has marks, which stand in the
// store beside the rows, in the order of lane, number and key. They are written in the batch of their row, so that they are right whatever ends the process:
// also what the recovery of a store reads, and what a copy follows, is marked.

// Mark is where a row is found beside its key.
type Mark struct {
	Lane string // at most 64 KiB. Those that are the same up to a zero byte are counted as one
	At   int64  // the order in the lane; not negative
}

const (
	// markPrefix stands before all marks in a store.
	markPrefix = "m/"
	// markedKey has the offset up to which the marks are right: another one than that of the rows is of a program that knew of none.
	markedKey = "__marked"
)

// lanePrefix stands before all marks of a lane.
func lanePrefix(lane string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte(markPrefix), uint16(len(lane))), lane...)
}

func (m Mark) key(of string) []byte {
	return append(binary.BigEndian.AppendUint64(lanePrefix(m.Lane), uint64(m.At)), of...)
}

// marker keeps the marks of a store. The one that writes the store owns it; counts is guarded by Store.mem.
type marker struct {
	of     func(row []byte) []Mark // nil: nothing is marked
	any    bool                    // there may be marks
	counts map[string]int64        // by lane; those without any are left out
}

// open finds out what is marked in a store that has the changelog up to offset, and marks anew what a program wrote that knew of no marks.
func (m *marker) open(db *database, offset int64) error {
	m.counts = make(map[string]int64)
	if m.of == nil {
		return nil
	}
	at, err := db.Get([]byte(markedKey), nil)
	if err != nil && !errors.Is(err, leveldb.ErrNotFound) {
		return err
	}
	if string(at) != strconv.FormatInt(offset, 10) {
		if err := m.renew(db, offset); err != nil {
			return err
		}
	}
	marks := db.NewIterator(util.BytesPrefix([]byte(markPrefix)), &opt.ReadOptions{DontFillCache: true})
	defer marks.Release()
	for marks.Next() {
		m.any = true
		key := marks.Key()[len(markPrefix):]
		m.counts[counted(string(key[2:2+int(binary.BigEndian.Uint16(key))]))]++
	}
	return marks.Error()
}

// renew marks all rows of a store.
func (m *marker) renew(db *database, offset int64) error {
	var batch leveldb.Batch
	write := func(least int) error {
		if batch.Len() < least {
			return nil
		}
		err := db.Write(&batch, nil)
		batch.Reset()
		return err
	}
	const step = 1000
	marks := db.NewIterator(util.BytesPrefix([]byte(markPrefix)), &opt.ReadOptions{DontFillCache: true})
	defer marks.Release()
	for marks.Next() {
		batch.Delete(marks.Key())
		if err := write(step); err != nil {
			return err
		}
	}
	rows := db.NewIterator(util.BytesPrefix([]byte(keyPrefix)), &opt.ReadOptions{DontFillCache: true})
	defer rows.Release()
	for rows.Next() {
		row, err := db.rowOf(rows.Key(), rows.Value())
		if err != nil {
			return err
		}
		for _, mark := range m.of(row) {
			batch.Put(mark.key(string(rows.Key()[len(keyPrefix):])), sizeOf(row))
		}
		if err := write(step); err != nil {
			return err
		}
	}
	batch.Put([]byte(markedKey), strconv.AppendInt(nil, offset, 10))
	return errors.Join(marks.Error(), rows.Error(), write(0))
}

// counted is what a lane is counted as.
func counted(lane string) string {
	name, _, _ := strings.Cut(lane, "\x00")
	return name
}

func sizeOf(row []byte) []byte { return binary.AppendUvarint(nil, uint64(len(row))) }

// change adds to a batch what becomes of the marks of a key that gets a row, nil for none, and notes in by how many there are more of each lane.
func (m *marker) change(db *database, batch *leveldb.Batch, key string, row []byte, more map[string]int64) error {
	var now []Mark
	if row != nil {
		now = m.of(row)
	}
	if m.any {
		before, err := db.row([]byte(keyPrefix + key))
		if err != nil && !errors.Is(err, leveldb.ErrNotFound) {
			return err
		}
		for _, mark := range m.of(before) {
			batch.Delete(mark.key(key))
			more[mark.Lane]--
		}
	}
	for _, mark := range now {
		batch.Put(mark.key(key), sizeOf(row))
		more[mark.Lane]++
		m.any = true
	}
	return nil
}

// count takes in what change has noted.
func (m *marker) count(more map[string]int64) {
	for lane, n := range more {
		lane = counted(lane)
		if m.counts[lane] += n; m.counts[lane] == 0 {
			delete(m.counts, lane)
		}
	}
}

// Lanes are those in which rows are marked, and how many of them, but for those that were set in the last moment.
func (s *Store) Lanes() map[string]int64 {
	s.mem.Lock()
	defer s.mem.Unlock()
	return maps.Clone(s.marks.counts)
}

// Count is how many rows are marked in a lane, but for those that were set in the last moment.
func (s *Store) Count(lane string) int64 {
	s.mem.Lock()
	defer s.mem.Unlock()
	return s.marks.counts[counted(lane)]
}

// Marked visits the marks of a lane in their order, as they are when it is called, until visit answers false. key is only good within visit, and
// size the bytes of the row. As Each it is for what tends the store.
func (s *Store) Marked(lane string, visit func(at int64, key []byte, size int) bool) error {
	prefix := lanePrefix(lane)
	marks := s.iterate(util.BytesPrefix(prefix))
	defer marks.Release()
	for marks.Next() {
		rest := marks.Key()[len(prefix):]
		size, _ := binary.Uvarint(marks.Value())
		if !visit(int64(binary.BigEndian.Uint64(rest)), rest[8:], int(size)) {
			break
		}
	}
	return s.note(marks.Error())
}

// Ends are the keys of the first and the last row that are marked in a lane, and the number of the last; ok is false where there are none. Only the owner of the
// partition calls it.
func (s *Store) Ends(lane string) (first, last string, at int64, ok bool, err error) {
	from, to, ok, err := s.ends(lane, func([]byte) bool { return false })
	return from.key, to.key, to.at, ok, err
}

// place is that of a mark in its lane.
type place struct {
	at  int64
	key string
}

func (p place) compare(with place) int {
	return cmp.Or(cmp.Compare(p.at, with.at), strings.Compare(p.key, with.key))
}

// ends are the first and the last place in a lane but for those of the keys that are left out; ok is false where there are none.
func (s *Store) ends(lane string, out func(key []byte) bool) (first, last place, ok bool, err error) {
	prefix := lanePrefix(lane)
	marks := s.iterate(util.BytesPrefix(prefix))
	defer marks.Release()
	key := func() []byte { return marks.Key()[len(prefix)+8:] }
	here := func() place {
		return place{int64(binary.BigEndian.Uint64(marks.Key()[len(prefix):])), string(key())}
	}
	for ok = marks.First(); ok && out(key()); {
		ok = marks.Next()
	}
	if ok {
		first = here()
		for ok = marks.Last(); ok && out(key()); {
			ok = marks.Prev()
		}
	}
	if ok {
		last = here()
	}
	return first, last, ok, s.note(marks.Error())
}

// Firsts visits the key of the first row of each lane that begins with something, until visit answers false. As Each it is for what tends the store.
func (s *Store) Firsts(begin string, visit func(key []byte) bool) error {
	marks := s.iterate(util.BytesPrefix([]byte(markPrefix)))
	defer marks.Release()
	for more := marks.First(); more; {
		key := marks.Key()
		end := len(markPrefix) + 2 + int(binary.BigEndian.Uint16(key[len(markPrefix):]))
		lane := bytes.Clone(key[:end])
		if bytes.HasPrefix(lane[len(markPrefix)+2:], []byte(begin)) && !visit(key[end+8:]) {
			break
		}
		more = marks.Seek(util.BytesPrefix(lane).Limit)
	}
	return s.note(marks.Error())
}

// LanesNow are the lanes in which rows are marked now, sorted.
func (s *Store) LanesNow() []string {
	_ = s.flush() // an error is a failure, which is told
	return slices.Sorted(maps.Keys(s.Lanes()))
}
