package views

import (
	"github.com/lovoo/goka/storage"

	"kafkagrpc/internal/tablestore"
)

// merged iterates the rows of stores in the order of their keys.
type merged struct {
	parts []storage.Iterator // those that have a row at hand
	all   []storage.Iterator
	at    int // of parts: the least key; -1 before the first
	err   error
}

// iterate begins at the keys that are not below prefix, and after a key if that is not "".
func iterate(stores []*tablestore.Store, prefix, after string) (*merged, error) {
	start := prefix
	if after != "" && after >= prefix {
		start = after + "\x00" // the least key above it
	}
	m := &merged{at: -1}
	for _, s := range stores {
		it, err := s.IteratorWithRange([]byte(start), nil)
		if err != nil {
			m.release()
			return nil, err
		}
		m.all = append(m.all, it)
		m.advance(it)
	}
	return m, nil
}

// advance goes on in one partition, which is among parts if there is a row.
func (m *merged) advance(it storage.Iterator) {
	if it.Next() {
		m.parts = append(m.parts, it)
	} else if err := it.Err(); err != nil {
		m.err = err
	}
}

func (m *merged) next() bool {
	if m.at >= 0 {
		it := m.parts[m.at]
		last := len(m.parts) - 1
		m.parts[m.at] = m.parts[last]
		m.parts = m.parts[:last]
		m.advance(it)
	}
	if m.err != nil || len(m.parts) == 0 {
		return false
	}
	m.at = 0
	least := string(m.parts[0].Key())
	for i, it := range m.parts[1:] {
		if key := it.Key(); string(key) < least {
			m.at, least = i+1, string(key)
		}
	}
	return true
}

func (m *merged) key() []byte { return m.parts[m.at].Key() }

func (m *merged) value() []byte {
	value, err := m.parts[m.at].Value()
	if err != nil {
		m.err = err
	}
	return value
}

func (m *merged) release() {
	for _, it := range m.all {
		it.Release()
	}
}
