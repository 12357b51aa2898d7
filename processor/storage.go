package processor

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/lovoo/goka/storage"
	"github.com/syndtr/goleveldb/leveldb"
	leveldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

const (
	// keyPrefix stands before every table key in a store: a key "__offset" would overwrite goka's own entry.
	keyPrefix = "k/"
	// offsetKey is goka's own entry.
	offsetKey = "__offset"
	// corruptFile in the folder of a store says that reading it has failed.
	corruptFile = "corrupt"
)

// storageBuilder opens the LevelDB store of a partition under dir. A corrupt store is moved aside (to
// <store>.corrupt, in place of an older one) and begun anew: the changelog has all of it.
func storageBuilder(dir string, log *slog.Logger) storage.Builder {
	return func(topic string, partition int32) (storage.Storage, error) {
		path := filepath.Join(dir, fmt.Sprintf("%s.%d", topic, partition))
		db, err := openStore(path)
		if leveldberrors.IsCorrupted(err) {
			aside := path + ".corrupt"
			log.Error("the local store of a partition is corrupt: moving it aside and recovering from the changelog",
				"store", path, "aside", aside, "error", err)
			if err := os.RemoveAll(aside); err != nil {
				return nil, fmt.Errorf("removing an older corrupt store: %w", err)
			}
			if err := os.Rename(path, aside); err != nil {
				return nil, fmt.Errorf("moving a corrupt store aside: %w", err)
			}
			db, err = openStore(path)
		}
		if err != nil {
			return nil, fmt.Errorf("opening the local store %s: %w", path, err)
		}
		inner, err := storage.New(db)
		if err != nil {
			return nil, fmt.Errorf("opening the local store %s: %w", path, err)
		}
		return store{inner, db, path, log}, nil
	}
}

func openStore(path string) (*leveldb.DB, error) {
	reason, err := os.ReadFile(filepath.Join(path, corruptFile))
	if err == nil {
		return nil, &leveldberrors.ErrCorrupted{Err: errors.New(string(reason))}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// By default a damaged part of the journal is skipped: its rows would be missing, and their keys executed again.
	return leveldb.OpenFile(path, &opt.Options{Strict: opt.DefaultStrict | opt.StrictJournal})
}

// store is the local copy of a partition of the table. It keeps table keys apart from goka's own entry, and notes
// a corruption that shows only as it is read: the error ends goka's processor, and the next one opens a new store.
type store struct {
	storage.Storage // goka's, for its handling of the offset
	db              *leveldb.DB
	path            string
	log             *slog.Logger
}

func (s store) Has(key string) (bool, error) {
	has, err := s.db.Has([]byte(keyPrefix+key), nil)
	return has, s.note(err)
}

func (s store) Get(key string) ([]byte, error) {
	value, err := s.db.Get([]byte(keyPrefix+key), nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, nil
	}
	return value, s.note(err)
}

func (s store) Set(key string, value []byte) error {
	return s.note(s.db.Put([]byte(keyPrefix+key), value, nil))
}

func (s store) Delete(key string) error {
	return s.note(s.db.Delete([]byte(keyPrefix+key), nil))
}

func (s store) GetOffset(otherwise int64) (int64, error) {
	offset, err := s.Storage.GetOffset(otherwise)
	if err != nil {
		// goka's error does not tell its cause.
		if _, cause := s.db.Get([]byte(offsetKey), nil); cause != nil {
			return offset, s.note(cause)
		}
	}
	return offset, err
}

// note leaves a mark for openStore where the error is a corruption, and says which store it is about.
func (s store) note(err error) error {
	if err == nil {
		return nil
	}
	if leveldberrors.IsCorrupted(err) {
		if failed := os.WriteFile(filepath.Join(s.path, corruptFile), []byte(err.Error()), 0o644); failed != nil {
			s.log.Error("the local store of a partition is corrupt, which could not be noted: remove it by hand",
				"store", s.path, "error", failed)
		}
	}
	return fmt.Errorf("local store %s: %w", s.path, err)
}

func (s store) Iterator() (storage.Iterator, error) { return s.IteratorWithRange(nil, nil) }

func (s store) IteratorWithRange(start, limit []byte) (storage.Iterator, error) {
	all := util.BytesPrefix([]byte(keyPrefix))
	from := append([]byte(keyPrefix), start...)
	to := all.Limit
	if len(limit) > 0 {
		to = append([]byte(keyPrefix), limit...)
	}
	it, err := s.Storage.IteratorWithRange(from, to)
	if err != nil {
		return nil, err
	}
	return storeIterator{it}, nil
}

type storeIterator struct{ storage.Iterator }

func (i storeIterator) Key() []byte { return i.Iterator.Key()[len(keyPrefix):] }
func (i storeIterator) Seek(key []byte) bool {
	return i.Iterator.Seek(append([]byte(keyPrefix), key...))
}
