package tablestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/syndtr/goleveldb/leveldb"
	leveldberrors "github.com/syndtr/goleveldb/leveldb/errors"
)

// keeps reports whether rows are kept in memory. What a recovery reads is in the changelog still.
func (s *Store) keeps() bool { return s.keep && s.IsRecovered() }

// refusal is why the store takes no rows; nil where it does. The caller holds mem.
func (s *Store) refusal() error {
	switch {
	case s.shut:
		return s.named(leveldb.ErrClosed)
	case s.failure != nil && !s.keeps():
		return s.failure
	default:
		return nil
	}
}

// note is the error of a reading, named. A corruption makes the store fail.
func (s *Store) note(err error) error {
	switch {
	case err == nil:
		return nil
	case leveldberrors.IsCorrupted(err):
		return s.fail(err)
	default:
		return s.named(err)
	}
}

// named says which store an error is about, and what helps where it is the disk.
func (s *Store) named(err error) error {
	return fmt.Errorf("local store %s: %w", s.path, OnDisk(s.dir, s.db.files.told(err)))
}

// fail ends the use of the store by err, and answers it named. What is in memory stays there; the offset is that of what is
// on the disk.
func (s *Store) fail(err error) error {
	named := s.named(err)
	s.mem.Lock()
	first := s.failure == nil
	if first {
		s.failure = named
		s.next.Store(s.stored)
		s.room.Broadcast()
	}
	s.mem.Unlock()
	if !first {
		return named
	}
	if leveldberrors.IsCorrupted(err) {
		s.mark()
	}
	if s.failed != nil {
		s.failed(named)
	}
	return named
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
