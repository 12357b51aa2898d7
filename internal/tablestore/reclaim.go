package tablestore

import (
	"bytes"
	"errors"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// Rows that are removed or written anew stay in their segments. When those have twice what was needed of them last, or half of the rows
// of then are removed, and they have something more than that, the keys are gone through: segments of which less than half is needed are given up, and what is needed of them is written anew. So
// a byte is written anew at most, on the average, for each that becomes free.

const (
	// spareSegments is how many segments more than that there may be.
	spareSegments = 2
	// moveBytes of rows are written anew at once. Nothing else is written meanwhile.
	moveBytes = 256 << 10
)

// apartRow is a large row as LevelDB has it.
type apartRow struct{ key, value []byte }

// isWasteful reports whether the segments have so much that is not needed that it is worth the work.
// The caller holds writing.
func (s *Store) isWasteful() bool {
	size, spare := s.db.segments.size(), spareSegments*s.db.segments.full
	return size > spare && (size > 2*s.needed+spare || s.removed > s.apart/2)
}

// reclaims gives up segments when there is reason to, until the store is closed.
func (s *Store) reclaims() {
	for {
		select {
		case <-s.wasteful:
		case <-s.tending.Done():
			return
		}
		if err := s.reclaim(); err != nil && s.tending.Err() == nil {
			s.log.Error("a local store takes more of the disk than it needs", "store", s.path, "error", err)
		}
	}
}

// reclaim gives up segments of which little is needed.
func (s *Store) reclaim() error {
	s.writing.Lock()
	end := s.db.segments.number // those before are written no more
	rows, err := s.db.GetSnapshot()
	s.removed = 0
	s.writing.Unlock()
	if err != nil {
		return s.note(err)
	}
	defer rows.Release()
	needed, all, apart := make(map[int64]int64), int64(0), 0
	err = s.eachApart(rows, func(_ apartRow, at location) error {
		needed[at.segment] += at.bytes()
		all += at.bytes()
		apart++
		return nil
	})
	if err != nil {
		return err
	}
	given := s.db.segments.hardly(needed, end)
	if err := s.move(rows, given, needed); err != nil {
		return err
	}
	for number := range given {
		err = errors.Join(err, s.db.segments.remove(number))
	}
	s.writing.Lock()
	s.needed, s.apart = all, apart
	s.writing.Unlock()
	return s.note(err)
}

// eachApart visits the large rows of a moment. What it visits is only good within visit.
func (s *Store) eachApart(rows *leveldb.Snapshot, visit func(row apartRow, at location) error) error {
	it := rows.NewIterator(util.BytesPrefix([]byte(keyPrefix)), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		if err := s.tending.Err(); err != nil {
			return err
		}
		at, _, is, err := locationOf(it.Value())
		if err != nil {
			return s.note(err)
		}
		if is {
			if err := visit(apartRow{it.Key(), it.Value()}, at); err != nil {
				return err
			}
		}
	}
	return s.note(it.Error())
}

// move writes what is needed of segments anew.
func (s *Store) move(rows *leveldb.Snapshot, given map[int64]bool, needed map[int64]int64) error {
	left := int64(0)
	for number := range given {
		left += needed[number]
	}
	if left == 0 {
		return nil
	}
	var some []apartRow
	size := int64(0)
	err := s.eachApart(rows, func(row apartRow, at location) error {
		if !given[at.segment] {
			return nil
		}
		some = append(some, apartRow{bytes.Clone(row.key), bytes.Clone(row.value)})
		if size += at.bytes(); size < moveBytes {
			return nil
		}
		err := s.moveAtOnce(some)
		some, size = some[:0], 0
		return err
	})
	if err != nil {
		return err
	}
	return s.moveAtOnce(some)
}

// moveAtOnce writes rows anew that are still what they were.
func (s *Store) moveAtOnce(rows []apartRow) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mem.Lock()
	failure := s.failure
	s.mem.Unlock()
	if failure != nil {
		return failure
	}
	s.batch.Reset()
	for _, row := range rows {
		now, err := s.db.Get(row.key, nil)
		if errors.Is(err, leveldb.ErrNotFound) || err == nil && !bytes.Equal(now, row.value) {
			continue
		}
		var value []byte
		if err == nil {
			value, err = s.db.rowOf(row.key, now)
		}
		if err != nil {
			return s.note(err)
		}
		s.db.put(&s.batch, row.key, value)
	}
	if err := s.db.write(&s.batch); err != nil {
		return s.fail(err)
	}
	return nil
}
