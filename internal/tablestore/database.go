package tablestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/syndtr/goleveldb/leveldb"
	leveldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/iterator"
)

const (
	// largeRow is from how many bytes on a row is apart from its key.
	largeRow = 128
	// apart is the first byte of what LevelDB has of such a row. Whatever else begins with it is apart, too, so that what begins with anything else is a row itself.
	apart = 0
)

// database is LevelDB with its files, which it does not close, and the segments of the large rows that LevelDB knows the places of.
type database struct {
	*leveldb.DB
	files    *files
	segments *segments
	expiry   func(row []byte) int64
	value    []byte // of the one that writes the store, to be used again
}

// openDatabase opens those of a store in a folder, of a table with so many partitions, and reads the offset of the last record of the changelog that
// the store has; nil for none. expiry may be nil.
func openDatabase(path string, partitions int, expiry func(row []byte) int64) (_ *database, offset *int64, err error) {
	note, err := os.ReadFile(filepath.Join(path, corruptFile))
	if err == nil && string(note) != notCorrupt {
		return nil, nil, &leveldberrors.ErrCorrupted{Err: errors.New("reading it has failed")}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	inner, err := openFiles(path)
	if err != nil {
		return nil, nil, err
	}
	db := &database{files: &files{Storage: inner}, expiry: expiry}
	if db.expiry == nil {
		db.expiry = func([]byte) int64 { return 0 }
	}
	defer func() {
		if err == nil {
			return
		}
		if failed := db.Close(); failed != nil {
			err = errors.Join(err, failed)
		} // else it stays as it is: it may be a corruption
	}()
	if db.DB, err = leveldb.Open(db.files, options(partitions)); err != nil {
		return nil, nil, db.files.told(err)
	}
	if db.segments, err = openSegmentsIn(filepath.Join(path, segmentsFolder), partitions); err != nil {
		return nil, nil, err
	}
	if offset, err = db.offset(); err != nil {
		return nil, nil, err
	}
	if note == nil {
		if err = os.WriteFile(filepath.Join(path, corruptFile), []byte(notCorrupt), 0o644); err != nil {
			return nil, nil, err
		}
	}
	return db, offset, nil
}

// offset is the one that openDatabase answers.
func (db *database) offset() (*int64, error) {
	text, err := db.Get([]byte(offsetKey), nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	offset, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return nil, &leveldberrors.ErrCorrupted{Err: fmt.Errorf("the offset: %w", err)}
	}
	return &offset, nil
}

// Close closes what is open of it.
func (db *database) Close() error {
	var err error
	if db.DB != nil {
		err = db.DB.Close()
	}
	if db.segments != nil {
		err = errors.Join(err, db.segments.close())
	}
	return errors.Join(err, db.files.Close())
}

// put adds a row to a batch. Before that is written, the segments must be. key has the prefix.
func (db *database) put(batch *leveldb.Batch, key, row []byte) {
	if len(row) < largeRow && (len(row) == 0 || row[0] != apart) {
		batch.Put(key, row)
		return
	}
	db.value = appendLocation(db.value[:0], db.segments.add(key, row), db.expiry(row))
	batch.Put(key, db.value)
}

// write writes a batch and the rows that put has added to it.
func (db *database) write(batch *leveldb.Batch) error {
	if err := db.segments.write(); err != nil {
		return err
	}
	return db.DB.Write(batch, nil)
}

// row answers the row of a key, which has the prefix, or leveldb.ErrNotFound.
func (db *database) row(key []byte) ([]byte, error) {
	value, err := db.DB.Get(key, nil)
	if err != nil {
		return nil, err
	}
	return db.rowOf(key, value)
}

// rowOf answers the row of a value that LevelDB has, or had, of a key. Where its segment was given up meanwhile, it is the row that the key
// has now, or leveldb.ErrNotFound.
func (db *database) rowOf(key, value []byte) ([]byte, error) {
	for {
		at, _, is, err := locationOf(value)
		if err != nil {
			return nil, err
		}
		if !is {
			return value, nil
		}
		row, err := db.segments.read(key, at)
		if !errors.Is(err, fs.ErrNotExist) {
			return row, err
		}
		now, err := db.DB.Get(key, nil)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(now, value) {
			return nil, corrupted(at, "the file is not there")
		}
		value = now
	}
}

// keyOf is the key that an iterator of LevelDB is at, without the prefix, and when its row expires.
func (db *database) keyOf(rows iterator.Iterator) (key []byte, expiry int64, err error) {
	_, expiry, is, err := locationOf(rows.Value())
	if err == nil && !is {
		expiry = db.expiry(rows.Value())
	}
	return rows.Key()[len(keyPrefix):], expiry, err
}

func appendLocation(b []byte, l location, expiry int64) []byte {
	b = binary.AppendUvarint(append(b, apart), uint64(l.segment))
	b = binary.AppendUvarint(b, uint64(l.offset))
	b = binary.AppendUvarint(b, uint64(l.size))
	return binary.AppendVarint(b, expiry)
}

var errLocation = &leveldberrors.ErrCorrupted{Err: errors.New("the place of a row is none")}

// locationOf reads what LevelDB has of a key. is tells that its row is apart.
func locationOf(value []byte) (l location, expiry int64, is bool, err error) {
	if len(value) == 0 || value[0] != apart {
		return l, 0, false, nil
	}
	rest := value[1:]
	next := func() int64 {
		n, size := binary.Uvarint(rest)
		if size <= 0 || int64(n) < 0 {
			err = errLocation
			return 0
		}
		rest = rest[size:]
		return int64(n)
	}
	l.segment, l.offset, l.size = next(), next(), int(next())
	if err != nil {
		return l, 0, false, err
	}
	expiry, size := binary.Varint(rest)
	if size != len(rest) {
		return l, 0, false, errLocation
	}
	return l, expiry, true, nil
}
