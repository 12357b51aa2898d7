package tablestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	leveldberrors "github.com/syndtr/goleveldb/leveldb/errors"
)

// write writes a row, or removes it where value is nil, by do. Where the store has failed, or fails by this, the row is kept in
// memory.
func (s *Store) write(key string, value []byte, do func() error) error {
	if !s.failing.Load() {
		err := do()
		if err == nil {
			return nil
		}
		if !s.fail(err) {
			return s.named(err)
		}
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	if !s.keeps() {
		return s.failure
	}
	s.kept[key] = value
	return nil
}

// SetOffset notes that the store has the changelog up to the record at offset, unless it lacks rows of it since it has failed.
func (s *Store) SetOffset(offset int64) error {
	if !s.failing.Load() {
		err := s.Storage.SetOffset(offset)
		if err == nil {
			if !s.IsRecovered() {
				s.read.Add(1)
			}
			s.next.Store(offset + 1)
			return nil
		}
		if !s.fail(err) {
			return s.named(err)
		}
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	if !s.keeps() {
		return s.failure
	}
	return nil
}

// keeps reports whether rows are kept in memory. What a recovery reads is in the changelog still.
func (s *Store) keeps() bool { return s.keep && s.IsRecovered() }

// inMemory is what was written of a key since the store has failed; a nil value is its removal.
func (s *Store) inMemory(key string) (value []byte, is bool) {
	if !s.failing.Load() {
		return nil, false
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	value, is = s.kept[key]
	return value, is
}

// note is the error of a reading, named. A corruption makes the store fail.
func (s *Store) note(err error) error {
	if err == nil {
		return nil
	}
	if leveldberrors.IsCorrupted(err) {
		s.fail(err)
	}
	return s.named(err)
}

// named says which store an error is about, and what helps where it is the disk.
func (s *Store) named(err error) error {
	return fmt.Errorf("local store %s: %w", s.path, OnDisk(s.dir, s.db.files.told(err)))
}

// fail ends the use of the store by err. It is false where the store is closed, which is no failure.
func (s *Store) fail(err error) bool {
	if s.tending.Err() != nil {
		return false
	}
	named := s.named(err)
	s.mem.Lock()
	first := s.failure == nil
	if first {
		s.failure, s.kept = named, make(map[string][]byte)
		s.failing.Store(true)
	}
	s.mem.Unlock()
	if !first {
		return true
	}
	if leveldberrors.IsCorrupted(err) {
		s.mark()
	}
	if s.failed != nil {
		s.failed(named)
	}
	return true
}

// mark lets the next opening know that the store is corrupt. A full disk takes that, too: the file is there already, under a
// name without which the store is of no known age.
func (s *Store) mark() {
	fresh := filepath.Join(s.path, freshFile)
	err := os.Rename(fresh, filepath.Join(s.path, corruptFile))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := os.Remove(fresh); err != nil {
		s.log.Error("the local store of a partition is corrupt, which could not be noted: remove it by hand", "store", s.path, "error", err)
	}
}
