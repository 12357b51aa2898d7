package tablestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka/storage"
	"github.com/syndtr/goleveldb/leveldb"
	leveldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/util"
)

const (
	// keyPrefix stands before every table key in a store: a key "__offset" would overwrite goka's own entry.
	keyPrefix = "k/"
	// offsetKey is goka's own entry: the offset of the last row of the changelog that the store has.
	offsetKey = "__offset"
	// corruptFile in the folder of a store says that reading it has failed, unless it has notCorrupt: earlier versions cannot read large rows that are
	// apart, and begin a store anew that has this file.
	corruptFile = "corrupt"
	notCorrupt  = "no: its large rows are apart, which earlier versions do not know\n"
	// topicIDFile in the folder of a store names the topic that it is a copy of.
	topicIDFile = "topic-id"
)

// Stores opens the local stores of a table, one LevelDB a partition. A store is only a copy of the changelog: one that
// cannot be trusted is removed, begun anew and recovered. That is one
//
//   - that is corrupt;
//   - that was last up to date so long ago that the changelog may have forgotten the removal of rows which the store has;
//   - that has more than the changelog, or says that it is a copy of another topic: the topic was deleted and made anew.
type Stores struct {
	Dir        string
	ID         string                                             // of the changelog topic; "" where it is not known
	MaxAge     time.Duration                                      // of a store that is continued
	Partitions int                                                // of the table, whose stores share the memory for writing; 0: one
	End        func(topic string, partition int32) (int64, error) // offset of the next record of the changelog
	Expiry     func(row []byte) int64                             // of a row, which Store.Keys tells; nil: 0
	Marks      func(row []byte) []Mark                            // of a row that is to be found beside its key; nil: none is
	Tend       func(ctx context.Context, s *Store)                // runs from the opening of a store to its closing; nil: nothing

	// Failed is told once of a store that is of no use any more and must be opened anew: the disk has refused a row, or it has
	// become corrupt. It must not wait. Also of one that cannot be opened, where the reason is a *DiskError. nil: nobody is.
	Failed func(error)
	// Keep makes a store that has recovered take rows also after it has failed, into memory, so that its user can end in order.
	Keep bool

	Log *slog.Logger
}

// Build is a storage.Builder.
func (b Stores) Build(topic string, partition int32) (storage.Storage, error) {
	s, err := b.Open(topic, partition)
	if err != nil {
		return nil, err // without a type of its own, which would be a store that is nil
	}
	return s, nil
}

// Open opens the store of one partition, or begins it.
func (b Stores) Open(topic string, partition int32) (*Store, error) {
	path := filepath.Join(b.Dir, fmt.Sprintf("%s.%d", topic, partition))
	b.Log = b.Log.With("topic", topic, "partition", partition)
	s, err := b.open(topic, partition, path)
	if err != nil {
		err = fmt.Errorf("opening the local store %s: %w", path, OnDisk(b.Dir, err))
		var disk *DiskError
		if b.Failed != nil && errors.As(err, &disk) {
			b.Failed(err)
		}
		return nil, err
	}
	return s, nil
}

func (b Stores) open(topic string, partition int32, path string) (*Store, error) {
	if err := removeAside(b.Dir); err != nil {
		return nil, err
	}
	db, offset, err := openDatabase(path, b.Partitions, b.Expiry)
	if leveldberrors.IsCorrupted(err) {
		b.Log.Error("the local store of a partition is corrupt: it is removed and recovered from the changelog", "store", path, "error", err)
		if err := os.RemoveAll(path); err != nil {
			return nil, fmt.Errorf("removing a corrupt store: %w", err)
		}
		db, offset, err = openDatabase(path, b.Partitions, b.Expiry)
	}
	if err != nil {
		return nil, err
	}
	end, err := b.End(topic, partition)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("asking for the end of topic %s, partition %d: %w", topic, partition, err), db.Close())
	}
	if offset != nil {
		reason, err := b.outdated(path, *offset, end)
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		if reason != "" {
			b.Log.Warn("the local store of a partition is removed and recovered from the changelog", "store", path, "reason", reason)
			if err := errors.Join(db.Close(), os.RemoveAll(path)); err != nil {
				return nil, err
			}
			if db, offset, err = openDatabase(path, b.Partitions, b.Expiry); err != nil {
				return nil, err
			}
		}
	}
	marks := marker{of: b.Marks}
	err = marks.open(db, orNone(offset))
	if leveldberrors.IsCorrupted(err) {
		b.Log.Error("the local store of a partition is corrupt: it is removed and recovered from the changelog", "store", path, "error", err)
		if err := errors.Join(db.Close(), os.RemoveAll(path)); err != nil {
			return nil, err
		}
		if db, offset, err = openDatabase(path, b.Partitions, b.Expiry); err == nil {
			err = marks.open(db, orNone(offset))
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if offset == nil {
		// An empty store is as good as the moment at which it begins to read the changelog.
		err = errors.Join(writeFreshness(path), b.writeTopicID(path))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	// The store lives from here to its Close; goka gives it no context.
	tending, stop := context.WithCancel(context.Background())
	s := &Store{
		db: db, dir: b.Dir, path: path, Partition: partition, log: b.Log,
		failed: b.Failed, keep: b.Keep, end: end, recovered: make(chan struct{}), tending: tending, stopTending: stop,
		marks: marks, rows: make(map[string][]byte), leaving: make(map[string][]byte), dirty: make(chan struct{}, 1), full: make(chan struct{}, 1), wasteful: make(chan struct{}, 1),
	}
	s.room.L = &s.mem
	if offset != nil {
		s.stored = *offset + 1
		s.next.Store(s.stored)
	}
	s.tenders.Go(s.writeBehind)
	s.tenders.Go(s.reclaims)
	if b.Tend != nil {
		s.tenders.Go(func() { b.Tend(tending, s) })
	}
	return s, nil
}

// orNone is an offset, or one that there is not.
func orNone(offset *int64) int64 {
	if offset == nil {
		return -1
	}
	return *offset
}

// outdated says why a store that has the changelog, which ends at end, up to offset cannot be continued from there; "" if it can.
func (b Stores) outdated(path string, offset, end int64) (string, error) {
	if offset >= end {
		return fmt.Sprintf("it has offset %d of the changelog, which ends at %d: the topic was made anew, or has lost records", offset, end), nil
	}
	id, err := os.ReadFile(filepath.Join(path, topicIDFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if got := strings.TrimSpace(string(id)); b.ID != "" && got != b.ID {
		return fmt.Sprintf("it is a copy of the topic with id %q, and the topic has id %q: it was made anew", got, b.ID), nil
	}
	current, err := readFreshness(path)
	if errnoOf(err) != 0 {
		return "", err // it may pass
	}
	if err != nil {
		return fmt.Sprintf("its age is not known: %v", err), nil
	}
	if age := time.Since(current); age.Abs() > b.MaxAge { // also after a jump of the clock
		return fmt.Sprintf("it was up to date at %s, and the changelog may have forgotten removals that are older than %s",
			current.Format(time.RFC3339), b.MaxAge), nil
	}
	return "", nil
}

func (b Stores) writeTopicID(path string) error {
	if err := os.WriteFile(filepath.Join(path, topicIDFile), []byte(b.ID+"\n"), 0o644); err != nil {
		return fmt.Errorf("noting which topic the local store is a copy of: %w", err)
	}
	return nil
}

// removeAside removes the corrupt stores that earlier versions have kept.
func removeAside(dir string) error {
	all, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range all {
		if filepath.Ext(entry.Name()) != ".corrupt" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("removing a corrupt store that was kept: %w", err)
		}
	}
	return nil
}

// Store is the local copy of a partition of the table, and goka's storage of it. It is safe for concurrent use. One that has
// failed writes no more rows, also where it could: the offset of a later one must not cover a row that is missing.
type Store struct {
	db        *database
	dir, path string
	Partition int32
	log       *slog.Logger

	failed func(error) // nil: nobody is told
	keep   bool

	// What was set and may not be in LevelDB, nil for what was removed. All are guarded by mem, but that leaving is read without by
	// the one that writes it.
	mem           sync.Mutex
	rows, leaving map[string][]byte // set last, and before that
	held          *Held             // nil where nothing is held back
	bytes         int               // of rows
	room          sync.Cond         // bytes has become less, or there is none for good
	stored        int64             // what next was when LevelDB got it
	failure       error             // why the store is of no use any more
	shut          bool              // it is closed to what is set
	dirty, full   chan struct{}     // for the writer: there is something to write; it is enough not to wait for more

	writing sync.Mutex // held by the one that writes
	batch   leveldb.Batch
	marks   marker
	// When it was found out last what is needed of the segments; 0 before. They are guarded by writing.
	needed  int64 // bytes
	apart   int   // rows
	removed int   // keys since then

	wasteful chan struct{} // the segments have much that is not needed

	end  int64        // of the changelog, when the store was opened
	next atomic.Int64 // offset of the first record of the changelog that the store may lack
	read atomic.Int64 // records of the changelog from the opening until the store was recovered

	reads reads

	mu          sync.Mutex
	recovered   chan struct{} // closed, with mu held, when it is
	closed      bool
	tenders     sync.WaitGroup
	tending     context.Context
	stopTending context.CancelFunc
}

// MarkRecovered is called when the store has caught up with the changelog. From then on it is up to date: the
// owner of the partition writes each row to both, and a standby copy follows.
func (s *Store) MarkRecovered() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.IsRecovered() { // goka does not wait for this call before it closes the store, and repeats it after an error
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	close(s.recovered)
	s.tenders.Go(s.stayFresh)
	return writeFreshness(s.path)
}

// stayFresh notes now and then that the store is up to date, as a crash would not.
func (s *Store) stayFresh() {
	fresh := time.NewTicker(freshnessInterval)
	defer fresh.Stop()
	for {
		select {
		case <-s.tending.Done():
			return
		case <-fresh.C:
			if s.flush() != nil {
				return
			}
			s.noteFresh()
		}
	}
}

func (s *Store) noteFresh() {
	if err := writeFreshness(s.path); err != nil {
		s.log.Warn("a local store looks older than it is, and may be recovered anew at its next opening", "store", s.path, "error", err)
	}
}

// Close also waits for what tends the store, ends its iterators, and writes what was set. Closing it again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	recovered := s.IsRecovered()
	s.mu.Unlock()
	s.stopTending()
	s.tenders.Wait()
	s.reads.close()
	s.mem.Lock()
	s.shut = true
	failed := s.failure != nil
	s.mem.Unlock()
	var err error
	if !failed {
		err = s.flush()
	}
	if recovered && !failed && err == nil {
		s.noteFresh()
	}
	return OnDisk(s.dir, errors.Join(err, s.db.Close()))
}

// Open is goka's. The store is open already.
func (s *Store) Open() error { return nil }

func (s *Store) Has(key string) (bool, error) {
	if value, is := s.inMemory(key); is {
		return value != nil, nil
	}
	has, err := s.db.Has([]byte(keyPrefix+key), nil)
	return has, s.note(err)
}

// Get answers the row of a key, nil where there is none. It must not be changed.
func (s *Store) Get(key string) ([]byte, error) {
	if value, is := s.inMemory(key); is {
		return value, nil
	}
	value, err := s.db.row([]byte(keyPrefix + key))
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, nil
	}
	if err == nil && value == nil {
		value = []byte{} // LevelDB answers so where an empty value is still in its journal's table; nil is for no row
	}
	return value, s.note(err)
}

// Size is about how many bytes the rows take on disk, with the journal of the latest of them; 0 once the store is closed.
func (s *Store) Size() int64 {
	sizes, err := s.db.SizeOf([]util.Range{*util.BytesPrefix([]byte(keyPrefix))})
	if err != nil {
		return 0
	}
	size := sizes.Sum() + s.db.segments.size()
	files, _ := os.ReadDir(s.path) // then without the journal
	for _, f := range files {
		if filepath.Ext(f.Name()) != ".log" {
			continue
		}
		if info, err := f.Info(); err == nil { // else it has become a table
			size += info.Size()
		}
	}
	return size
}
