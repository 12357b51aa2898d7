package tablestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/syndtr/goleveldb/leveldb"
	leveldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Large rows are in segments, apart from their keys: LevelDB writes what it has anew many times over, and has only the place of such a
// row. A segment is a file that is written once, from its begin to its end, and read at any place. It is one row after the
// other, each behind a checksum of its key and itself. The keys know the places, so that what no key knows, as after a crash, is not there.

const (
	// segmentsFolder is in the folder of a store.
	segmentsFolder = "rows"
	// A segment of this size is followed by another one. The stores of a table share segmentsBytes, for one segment each.
	segmentsBytes   = 1 << 30
	minSegmentBytes = 1 << 20
	maxSegmentBytes = 32 << 20
	// openSegments are those of all stores of a table that are kept open to be read, and minOpenSegments those of each.
	openSegments    = 512
	minOpenSegments = 4

	checksumBytes = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key, row []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, row)
}

// location is where a row is in the segments.
type location struct {
	segment int64
	offset  int64 // of its checksum
	size    int   // of the row alone
}

// bytes are those that it takes of its segment.
func (l location) bytes() int64 { return int64(l.size) + checksumBytes }

// segments are those of a store. add and write are for the one that writes the store, all else is safe for concurrent use.
type segments struct {
	files *files
	full  int64 // bytes with which one is followed by another one
	most  int   // that are open to be read

	number int64          // of the one that is written
	head   storage.Writer // nil before its first row
	at     int64          // its end
	batch  []byte         // what the next write appends

	mu     sync.Mutex
	closed bool
	all    int64                    // bytes
	sizes  map[int64]int64          // by number, of those that there are
	open   map[int64]storage.Reader // those that were read
}

// openSegmentsIn opens those in a folder, of a table with so many partitions.
func openSegmentsIn(path string, partitions int) (*segments, error) {
	inner, err := openFiles(path)
	if err != nil {
		return nil, err
	}
	s := &segments{
		files: &files{Storage: inner},
		full:  min(max(segmentsBytes/int64(max(partitions, 1)), minSegmentBytes), maxSegmentBytes),
		most:  max(openSegments/max(partitions, 1), minOpenSegments),
		sizes: make(map[int64]int64), open: make(map[int64]storage.Reader),
	}
	if err := s.list(); err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	return s, nil
}

func (s *segments) list() error {
	all, err := s.files.List(storage.TypeTable)
	if err != nil {
		return err
	}
	for _, fd := range all {
		r, err := s.files.Open(fd)
		if err != nil {
			return err
		}
		size, err := r.Seek(0, io.SeekEnd)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		s.sizes[fd.Num] = size
		s.all += size
		s.number = max(s.number, fd.Num)
	}
	s.number++ // none is continued: it may end in a part of a row
	return nil
}

func segmentFile(number int64) storage.FileDesc {
	return storage.FileDesc{Type: storage.TypeTable, Num: number}
}

// add takes a row for the next write, and answers where it will be.
func (s *segments) add(key, row []byte) location {
	l := location{s.number, s.at + int64(len(s.batch)), len(row)}
	s.batch = binary.LittleEndian.AppendUint32(s.batch, checksum(key, row))
	s.batch = append(s.batch, row...)
	return l
}

// write appends what was added. After an error nothing may be added any more.
func (s *segments) write() error {
	if len(s.batch) == 0 {
		return nil
	}
	if s.head == nil {
		w, err := s.files.Storage.Create(segmentFile(s.number))
		if err != nil {
			return s.files.note(err)
		}
		s.head = &file{w, s.files}
	}
	n, err := s.head.Write(s.batch)
	s.at += int64(n)
	s.mu.Lock()
	s.sizes[s.number] = s.at
	s.all += int64(n)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if s.batch = s.batch[:0]; cap(s.batch) > 2*maxDirty { // of a large row
		s.batch = nil
	}
	if s.at < s.full {
		return nil
	}
	err = s.head.Close()
	s.head, s.at = nil, 0
	s.number++
	return err
}

// size is how many bytes all of them have.
func (s *segments) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// hardly are those before end of which less than half is needed.
func (s *segments) hardly(needed map[int64]int64, end int64) map[int64]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	some := make(map[int64]bool)
	for number, size := range s.sizes {
		if number < end && 2*needed[number] < size {
			some[number] = true
		}
	}
	return some
}

// read answers a row, fs.ErrNotExist where its segment is not there.
func (s *segments) read(key []byte, l location) ([]byte, error) {
	var text []byte
	for {
		r, err := s.reader(l)
		if err != nil {
			return nil, err
		}
		if text == nil {
			text = make([]byte, l.bytes())
		}
		_, err = r.ReadAt(text, l.offset)
		switch {
		case errors.Is(err, os.ErrClosed): // for another one, or for good
			continue
		case errors.Is(err, io.EOF):
			return nil, corrupted(l, "it ends before that")
		case err != nil:
			return nil, err
		}
		row := text[checksumBytes:]
		if binary.LittleEndian.Uint32(text) != checksum(key, row) {
			return nil, corrupted(l, "another row is there")
		}
		return row, nil
	}
}

func corrupted(l location, why string) error {
	return leveldberrors.NewErrCorrupted(segmentFile(l.segment), fmt.Errorf("%s/%06d, a row of %d bytes at %d: %s", segmentsFolder, l.segment, l.size, l.offset, why))
}

// reader opens the segment of a row, or answers the one that is open.
func (s *segments) reader(l location) (storage.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := l.segment
	if s.closed {
		return nil, leveldb.ErrClosed
	}
	size, is := s.sizes[number]
	switch {
	case !is:
		return nil, fs.ErrNotExist
	case l.offset+l.bytes() > size:
		return nil, corrupted(l, "it ends before that")
	}
	if r := s.open[number]; r != nil {
		return r, nil
	}
	r, err := s.files.Open(segmentFile(number))
	if err != nil {
		return nil, err
	}
	for other := range s.open {
		if len(s.open) < s.most {
			break
		}
		s.shut(other)
	}
	s.open[number] = r
	return r, nil
}

// shut closes a segment to be read. The caller holds mu.
func (s *segments) shut(number int64) {
	if r := s.open[number]; r != nil {
		_ = r.Close() // it was only read
		delete(s.open, number)
	}
}

// remove removes a segment. Who reads it is told that it is not there.
func (s *segments) remove(number int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut(number)
	s.all -= s.sizes[number]
	delete(s.sizes, number)
	return s.files.Remove(segmentFile(number))
}

// close must come after the last write.
func (s *segments) close() error {
	var err error
	if s.head != nil {
		err = s.head.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for number := range s.open {
		s.shut(number)
	}
	return errors.Join(err, s.files.Close())
}
