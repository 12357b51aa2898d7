package tablestore

import (
	"errors"
	"sync"

	"github.com/lovoo/goka/storage"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// IsClosed reports whether a reading has failed because the store was closed.
func IsClosed(err error) bool { return errors.Is(err, leveldb.ErrClosed) }

// iterate begins at the rows as they are now. Of a store that has failed they are those on the disk.
func (s *Store) iterate(keys *util.Range) iterator.Iterator {
	_ = s.flush() // an error is a failure, which is told
	return s.db.NewIterator(keys, &opt.ReadOptions{DontFillCache: true})
}

// Keys visits the keys of the rows as they are when it is called, in their order, and when each row expires, until visit answers false. It does not read
// large rows. key is only good within visit. It is for what tends the store, which Close waits for.
func (s *Store) Keys(visit func(key []byte, expiry int64) bool) error {
	rows := s.iterate(util.BytesPrefix([]byte(keyPrefix)))
	defer rows.Release()
	for rows.Next() {
		key, expiry, err := s.db.keyOf(rows)
		if err != nil {
			return s.note(err)
		}
		if !visit(key, expiry) {
			break
		}
	}
	return s.note(rows.Error())
}

func (s *Store) Iterator() (storage.Iterator, error) { return s.IteratorWithRange(nil, nil) }

// IteratorWithRange is for everybody, at any pace: the store does not wait for its iterators when it is closed, which ends them with
// leveldb.ErrClosed. The rows are those of now, but that one which has changed since may be as it became, or missing where it was removed.
func (s *Store) IteratorWithRange(start, limit []byte) (storage.Iterator, error) {
	all := util.BytesPrefix([]byte(keyPrefix))
	from := append([]byte(keyPrefix), start...)
	to := all.Limit
	if len(limit) > 0 {
		to = append([]byte(keyPrefix), limit...)
	}
	it := &storeIterator{store: s}
	if !s.reads.open(it, func() { it.rows = s.iterate(&util.Range{Start: from, Limit: to}) }) {
		return nil, s.named(leveldb.ErrClosed)
	}
	return it, nil
}

// reads are the iterators that are open: LevelDB must not be closed before them.
type reads struct {
	mu     sync.Mutex // taken before that of an iterator
	all    map[*storeIterator]struct{}
	closed bool
}

// open opens an iterator by begin, and reports whether it could.
func (r *reads) open(it *storeIterator, begin func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if r.all == nil {
		r.all = make(map[*storeIterator]struct{})
	}
	begin()
	r.all[it] = struct{}{}
	return true
}

func (r *reads) forget(it *storeIterator) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, it)
}

// close ends all of them, between two of their rows.
func (r *reads) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for it := range r.all {
		it.end(leveldb.ErrClosed)
	}
	clear(r.all)
}

// storeIterator is used by one goroutine, but for its end by the store.
type storeIterator struct {
	store      *Store
	key, value []byte // of the row that it is at, in memory of the iterator that only its user changes

	mu   sync.Mutex
	rows iterator.Iterator
	err  error // why it has ended early
}

func (i *storeIterator) end(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.err = err
	i.rows.Release()
}

// move moves to another row, unless the iterator was ended.
func (i *storeIterator) move(by func() bool) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.value = nil, nil
	for i.err == nil && by() {
		value, err := i.store.db.rowOf(i.rows.Key(), i.rows.Value())
		if errors.Is(err, leveldb.ErrNotFound) { // it was removed since, and its segment given up
			by = i.rows.Next
			continue
		}
		if err != nil {
			i.err = err
			break
		}
		i.key, i.value = i.rows.Key()[len(keyPrefix):], value
		return true
	}
	return false
}

func (i *storeIterator) Next() bool { return i.move(func() bool { return i.rows.Next() }) }
func (i *storeIterator) Seek(key []byte) bool {
	return i.move(func() bool { return i.rows.Seek(append([]byte(keyPrefix), key...)) })
}
func (i *storeIterator) Key() []byte            { return i.key }
func (i *storeIterator) Value() ([]byte, error) { return i.value, nil }

func (i *storeIterator) Err() error {
	i.mu.Lock()
	err := i.err
	if err == nil {
		err = i.rows.Error()
	}
	i.mu.Unlock()
	return i.store.note(err)
}

func (i *storeIterator) Release() {
	i.store.reads.forget(i)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rows.Release()
}
