package tablestore

import (
	"strconv"
	"time"
)

// Rows are written behind: what is set waits in memory, where a reading looks first, until the writer of the store puts it into
// segments and LevelDB, with the offset of the changelog that belongs to it, in one batch. So a store has all rows up to its offset however
// the process ends, and who sets a row does not wait for a file.

const (
	// gatherTime is how long a row waits for others.
	gatherTime = 25 * time.Millisecond
	// gatherBytes of rows are written at once.
	gatherBytes = 32 << 10
	// maxDirty is how many bytes of rows wait at most, and as many may be on their way to LevelDB: then Set waits. Only rows that were held go above it.
	maxDirty = 128 << 10
	// rowBytes is what a row counts beside its key and value.
	rowBytes = 128
)

// Set takes a row, which is not changed later.
func (s *Store) Set(key string, value []byte) error {
	if value == nil {
		value = []byte{}
	}
	return s.put(key, value)
}

func (s *Store) Delete(key string) error { return s.put(key, nil) }

// put takes a row, or its removal where value is nil.
func (s *Store) put(key string, value []byte) error {
	s.mem.Lock()
	defer s.mem.Unlock()
	if err := s.awaitRoom(); err != nil {
		return err
	}
	s.take(key, value)
	return nil
}

// awaitRoom waits until the store may take a row; an error is why it takes none. The caller holds mem.
func (s *Store) awaitRoom() error {
	for s.bytes >= maxDirty && s.failure == nil && !s.shut {
		s.room.Wait()
	}
	return s.refusal()
}

// take lets a row, or its removal, wait for the writer. The caller holds mem.
func (s *Store) take(key string, value []byte) {
	s.rows[key] = value
	s.bytes += len(key) + len(value) + rowBytes
	signal(s.dirty)
	if s.bytes >= gatherBytes {
		signal(s.full)
	}
}

// Confirm notes that the changelog has the row of a key, which was set, or its removal where row is nil, at offset; one below 0 is not known. It
// never waits for a file.
func (s *Store) Confirm(_ string, _ []byte, offset int64) error {
	if offset < 0 {
		return nil
	}
	return s.SetOffset(offset)
}

// SetOffset notes that the store was given the changelog up to the record at offset. It never waits for a file.
func (s *Store) SetOffset(offset int64) error {
	s.mem.Lock()
	defer s.mem.Unlock()
	if err := s.refusal(); err != nil {
		return err
	}
	s.reach(offset)
	return nil
}

// reach notes the offset of what was taken, unless the store has failed: its offset is that of the rows on the disk. The caller holds mem.
func (s *Store) reach(offset int64) {
	if s.failure != nil {
		return
	}
	if !s.IsRecovered() {
		s.read.Add(1)
	}
	s.next.Store(offset + 1)
	signal(s.dirty)
}

// GetOffset is the offset that was set last, or def where there is none. One that has failed has that of the rows that are on the disk.
func (s *Store) GetOffset(def int64) (int64, error) {
	if next := s.next.Load(); next > 0 {
		return next - 1, nil
	}
	return def, nil
}

// signal notes something in a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// inMemory is what was set of a key, and may not be in LevelDB; a nil value is its removal.
func (s *Store) inMemory(key string) (value []byte, is bool) {
	s.mem.Lock()
	defer s.mem.Unlock()
	if value, is = s.rows[key]; !is {
		value, is = s.leaving[key]
	}
	return value, is
}

// writeBehind is the writer. It ends where the store fails or is closed.
func (s *Store) writeBehind() {
	gathered := time.NewTimer(gatherTime)
	defer gathered.Stop()
	for {
		select {
		case <-s.dirty:
		case <-s.tending.Done():
			return
		}
		gathered.Reset(gatherTime)
		select {
		case <-gathered.C:
		case <-s.full:
		case <-s.tending.Done():
			return
		}
		if s.flush() != nil {
			return
		}
	}
}

// flush returns when all that was set before is in LevelDB. By an error the store has failed.
func (s *Store) flush() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mem.Lock()
	next := s.next.Load()
	if s.failure != nil || len(s.rows) == 0 && next == s.stored {
		defer s.mem.Unlock()
		return s.failure
	}
	s.rows, s.leaving, s.bytes = s.leaving, s.rows, 0
	for _, c := range []chan struct{}{s.dirty, s.full} {
		select {
		case <-c:
		default:
		}
	}
	s.room.Broadcast()
	s.mem.Unlock()

	s.batch.Reset()
	var text []byte
	more := make(map[string]int64)
	for key, value := range s.leaving { // which nobody else changes
		if s.marks.of != nil {
			if err := s.marks.change(s.db, &s.batch, key, value, more); err != nil {
				return s.fail(err)
			}
		}
		text = append(append(text[:0], keyPrefix...), key...)
		if value == nil {
			s.batch.Delete(text)
			s.removed++
		} else {
			s.db.put(&s.batch, text, value)
		}
	}
	if next > 0 {
		text = strconv.AppendInt(text[:0], next-1, 10)
		s.batch.Put([]byte(offsetKey), text)
		if s.marks.of != nil {
			s.batch.Put([]byte(markedKey), text)
		}
	}
	if err := s.db.write(&s.batch); err != nil {
		return s.fail(err)
	}
	if s.isWasteful() {
		signal(s.wasteful)
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	clear(s.leaving)
	s.marks.count(more)
	s.stored = next
	return nil
}
