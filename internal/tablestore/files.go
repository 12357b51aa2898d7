package tablestore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// files are those of a store. What a full disk has taken of a record is taken back: a part of one would look like a corruption
// later. And they remember what the disk refused, as goleveldb does not always tell it on.
type files struct {
	storage.Storage

	mu      sync.Mutex
	refused error
}

// told is err with what the disk refused behind it, where it only has the words of that.
func (f *files) told(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refused != nil && errnoOf(err) == 0 && strings.Contains(err.Error(), f.refused.Error()) {
		return f.refused
	}
	return err
}

func (f *files) note(err error) error {
	if errnoOf(err) != 0 {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.refused = err
	}
	return err
}

func (f *files) SetMeta(fd storage.FileDesc) error { return f.note(f.Storage.SetMeta(fd)) }

func (f *files) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := f.Storage.Create(fd)
	if err != nil {
		return nil, f.note(err)
	}
	file := &file{Writer: w, files: f}
	if fd.Type == storage.TypeJournal || fd.Type == storage.TypeManifest {
		return &journal{file: file}, nil
	}
	return &table{file, bufio.NewWriterSize(file, tablePiece)}, nil
}

type file struct {
	storage.Writer
	files *files
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	return n, f.files.note(err)
}

func (f *file) Sync() error { return f.files.note(f.Writer.Sync()) }

// tablePiece is how many bytes of a table are written at once. LevelDB gives it block by block.
const tablePiece = 64 << 10

// table is a file of rows. It is not forced to the disk: most are soon written anew with others, and no process that ends takes a part of one
// along. A machine that loses power may. Tables are checked as they are read, so that such a store is found corrupt, and recovered. What tells which
// tables there are is forced to the disk: without it a store could be older than its offset.
type table struct {
	*file
	pieces *bufio.Writer
}

func (t *table) Write(p []byte) (int, error) { return t.pieces.Write(p) }

// Sync implements storage.Writer. LevelDB calls it once, at the end of the table.
func (t *table) Sync() error { return t.pieces.Flush() }

// journal is a file of records. A record is one chunk or several: a checksum of 4 bytes, the length of what follows in 2, the
// chunk's place in the record in 1, and that many bytes. goleveldb writes whole chunks only, and after them zeros to the end of
// a block in which no other begins, and writes no more after an error.
type journal struct {
	*file
	end   int64 // of what was written
	whole int64 // the end of the last whole record
}

const (
	chunkHeader = 7
	wholeChunk  = 1 // the record is in this chunk alone
	lastChunk   = 4

	blockSize = 32 << 10
)

func (j *journal) Write(p []byte) (int, error) {
	n, err := j.file.Write(p)
	if err != nil {
		return n, errors.Join(err, j.takeBack())
	}
	at := j.end
	j.end += int64(n)
	for len(p) >= chunkHeader {
		size := chunkHeader + int(binary.LittleEndian.Uint16(p[4:]))
		if size > len(p) {
			break
		}
		at += int64(size)
		if p[6] == wholeChunk || p[6] == lastChunk {
			j.whole = at
		}
		p = p[size:]
	}
	return n, nil
}

// takeBack cuts off what does not belong to a whole record.
func (j *journal) takeBack() error {
	f, ok := j.Writer.(interface {
		io.Seeker
		Truncate(size int64) error
	})
	if !ok {
		return nil // it is looked at when the store is opened
	}
	if err := f.Truncate(j.whole); err != nil {
		return err
	}
	_, err := f.Seek(j.whole, io.SeekStart)
	j.end = j.whole
	return err
}

// Open opens a file to be read. Of the last journal, and the last manifest, it shows whole records only: a process that was killed may
// have written a part of one. Without it the store is as it was before. A part of a record in any other place is a corruption.
func (f *files) Open(fd storage.FileDesc) (storage.Reader, error) {
	r, err := f.Storage.Open(fd)
	if err != nil || fd.Type != storage.TypeJournal && fd.Type != storage.TypeManifest {
		return r, err
	}
	all, err := f.List(fd.Type)
	if err == nil && slices.ContainsFunc(all, func(other storage.FileDesc) bool { return other.Num > fd.Num }) {
		return r, nil
	}
	var whole int64
	if err == nil {
		whole, err = wholeRecords(r)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return wholeJournal{io.NewSectionReader(r, 0, whole), r}, nil
}

type wholeJournal struct {
	*io.SectionReader
	io.Closer
}

// wholeRecords is the end of the last whole record of a journal that ends within one, and else that of the journal.
func wholeRecords(r io.ReaderAt) (int64, error) {
	block := make([]byte, blockSize)
	whole, within := int64(0), false
	for at := int64(0); ; at += blockSize {
		n, err := r.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := 0; i+chunkHeader <= n; {
			size, kind := chunkHeader+int(binary.LittleEndian.Uint16(block[i+4:])), block[i+6]
			switch {
			case kind < wholeChunk || kind > lastChunk || i+size > n && n == blockSize:
				return math.MaxInt64, nil // LevelDB finds the corruption
			case i+size > n:
				return whole, nil
			}
			i += size
			if within = kind != wholeChunk && kind != lastChunk; !within {
				whole = at + int64(i)
			}
		}
		if n < blockSize {
			if within {
				return whole, nil
			}
			return at + int64(n), nil
		}
	}
}

// openFiles opens the files of a folder. Tests replace it by a disk that is full.
var openFiles = func(path string) (storage.Storage, error) { return storage.OpenFile(path, false) }
