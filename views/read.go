package views

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lovoo/goka/storage"

	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// What one page of List costs, at most. It ends where one of these is reached.
const (
	maxLimit     = 1000
	defaultLimit = 100
	pageRows     = 100_000
	pageBytes    = 64 << 20 // of rows that are read
	pageTime     = 2 * time.Second
)

// notFound says why a key has no result.
type notFound struct{ reason string }

func (e *notFound) Error() string { return e.reason }

// get answers what is known of a key, or a *notFound.
func (t *Table) get(_ context.Context, key string, _ bool) (*viewspb.GetResponse, error) {
	r, err := t.ready()
	if err != nil {
		return nil, err
	}
	state := r.parts[wire.Partition([]byte(key), r.keyed)].state() // before the reading: what is read is at least as fresh
	value, err := state.store.Get(key)
	if err != nil {
		return nil, t.failed(err)
	}
	if value == nil {
		return nil, &notFound{fmt.Sprintf("key %q is not in the table of group %s: it was never seen, or it has expired and was removed%s",
			shortened(key), t.c.Group, r.similar(key))}
	}
	found := parseRow(value)
	if err := found.gone(key, time.Now()); err != nil {
		return nil, err
	}
	return &viewspb.GetResponse{Entry: t.entry(key, found), Freshness: freshnessOf(state.freshness())}, nil
}

// gone is why a row answers its key no more; nil if it does.
func (r row) gone(key string, now time.Time) error {
	if !r.expired(now) {
		return nil
	}
	return &notFound{fmt.Sprintf("key %q expired at %s: it is executed again when it comes again",
		shortened(key), time.UnixMilli(r.pb.ExpiresMs).UTC().Format(time.RFC3339))}
}

// failed is the error of a store. One that is closed is of a replica that has ended meanwhile.
func (t *Table) failed(err error) error {
	if _, ended := t.ready(); ended != nil {
		return ended
	}
	return err
}

// maxShown is how many bytes of a key a message has.
const maxShown = 200

func shortened(key string) string {
	if len(key) > maxShown {
		return key[:maxShown] + "..."
	}
	return key
}

// similar hints at keys that begin as one that is not there: the table has <idempotency key>-<md5 of method and overrides>, and a
// list that is cut has only their beginnings.
func (r *replica) similar(key string) string {
	found := r.beginning(key+"-", func(rest string) bool {
		md5, err := hex.DecodeString(rest)
		return err == nil && len(md5) == 16
	})
	if len(found) == 0 {
		found = r.beginning(key, func(string) bool { return true })
	}
	if len(found) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(found, " or ") + "?"
}

// beginning are the first keys, quoted, that begin with something, and are short enough for a message.
func (r *replica) beginning(with string, take func(rest string) bool) (found []string) {
	const most = 3
	it, err := r.iterate(with, "")
	if err != nil {
		return nil
	}
	defer it.release()
	for looked := 0; looked < 100 && len(found) < most && it.next(); looked++ {
		rest, ok := strings.CutPrefix(string(it.key()), with)
		if !ok {
			break
		}
		if take(rest) && len(with)+len(rest) <= maxShown {
			found = append(found, strconv.Quote(with+rest))
		}
	}
	return found
}

// page is one answer of list.
type page struct {
	entries []*viewspb.Entry
	next    string
	scanned int64
}

// list answers a page of the rows that pass, in the order of their keys.
func (t *Table) list(ctx context.Context, request *viewspb.ListRequest) (page, Freshness, error) {
	f, err := newFilter(request.Filter)
	if err != nil {
		return page{}, Freshness{}, err
	}
	limit := int(request.Limit)
	if limit == 0 {
		limit = defaultLimit
	}
	if limit < 0 || limit > maxLimit {
		return page{}, Freshness{}, &badRequest{"limit", fmt.Sprintf("it takes a number from 1 to %d; next_cursor has the rest", maxLimit)}
	}
	query := sum(t.c.Group, request.Filter)
	after := ""
	if request.Cursor != "" {
		if after, err = decodeListCursor(request.Cursor, query); err != nil {
			return page{}, Freshness{}, err
		}
	}
	r, err := t.ready()
	if err != nil {
		return page{}, Freshness{}, err
	}
	fresh := r.freshness()
	it, err := r.iterate(f.prefix, after)
	if err != nil {
		return page{}, fresh, t.failed(err)
	}
	defer it.release()
	var out page
	begun, read := time.Now(), 0
	for it.next() {
		key := string(it.key())
		if !strings.HasPrefix(key, f.prefix) {
			return out, fresh, nil
		}
		out.scanned++
		read += len(it.value())
		if row := parseRow(it.value()); !row.expired(begun) && f.passes(row) {
			out.entries = append(out.entries, t.summary(key, row))
		}
		spent := out.scanned >= pageRows || read >= pageBytes || out.scanned%256 == 0 && (time.Since(begun) > pageTime || ctx.Err() != nil)
		if len(out.entries) == limit || spent {
			out.next = encodeListCursor(query, key)
			return out, fresh, nil
		}
	}
	if it.err != nil {
		return page{}, fresh, t.failed(it.err)
	}
	return out, fresh, nil
}

// merged iterates the rows of all partitions in the order of their keys.
type merged struct {
	parts []storage.Iterator // those that have a row at hand
	all   []storage.Iterator
	at    int // of parts: the least key; -1 before the first
	err   error
}

// iterate begins at the keys that are not below prefix, and after a key if that is not "".
func (r *replica) iterate(prefix, after string) (*merged, error) {
	start := prefix
	if after != "" && after >= prefix {
		start = after + "\x00" // the least key above it
	}
	m := &merged{at: -1}
	for _, p := range r.parts {
		it, err := p.state().store.IteratorWithRange([]byte(start), nil)
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
