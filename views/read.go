package views

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafkagrpc/internal/tablestore"
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
func (t *Table) get(_ context.Context, key string, _ []int32) (*viewspb.GetResponse, error) {
	r, err := t.ready()
	if err != nil {
		return nil, err
	}
	all := r.stores()
	in, fresh := all, r.freshness() // before the reading: what is read is at least as fresh
	if !t.c.Ordered {
		state := r.parts[wire.Partition([]byte(key), r.keyed)].state()
		in, fresh = []*tablestore.Store{state.store}, state.freshness()
	}
	response, err := t.found(key, in, all)
	if err != nil {
		return nil, t.failed(err)
	}
	response.Freshness = freshnessOf(fresh)
	return response, nil
}

// found answers a key from the stores in which it may be. Where it is not there, all stores may have one that is meant.
func (d describer) found(key string, in, all []*tablestore.Store) (*viewspb.GetResponse, error) {
	var value []byte
	for _, store := range in {
		var err error
		if value, err = store.Get(key); err != nil {
			return nil, err
		}
		if value != nil {
			break
		}
	}
	if value == nil {
		return nil, &notFound{fmt.Sprintf("key %q is not in the table of group %s: it was never seen, or it has expired and was removed%s",
			shortened(key), d.group, similar(all, key))}
	}
	r := parseRow(value)
	if err := r.gone(key, time.Now()); err != nil {
		return nil, err
	}
	return &viewspb.GetResponse{Entry: d.entry(key, r)}, nil
}

// gone is why a row answers its key no more; nil if it does.
func (r row) gone(key string, now time.Time) error {
	if !r.expired(now) {
		return nil
	}
	return &notFound{fmt.Sprintf("key %q expired at %s: it is executed again when it comes again",
		shortened(key), time.UnixMilli(r.pb.ExpiresMs).UTC().Format(time.RFC3339))}
}

// failed is the error of a reading. A store that is closed is of a replica that has ended meanwhile.
func (t *Table) failed(err error) error {
	if none := (*notFound)(nil); errors.As(err, &none) {
		return err
	}
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
func similar(stores []*tablestore.Store, key string) string {
	found := keysWith(stores, key+"-", func(rest string) bool {
		md5, err := hex.DecodeString(rest)
		return err == nil && len(md5) == 16
	})
	if len(found) == 0 {
		found = keysWith(stores, key, func(string) bool { return true })
	}
	if len(found) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(found, " or ") + "?"
}

// keysWith are the first keys, quoted, that begin with something, and are short enough for a message.
func keysWith(stores []*tablestore.Store, with string, take func(rest string) bool) (found []string) {
	const most = 3
	it, err := iterate(stores, with, "")
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
	fresh   Freshness
}

// listing is a checked ListRequest.
type listing struct {
	filter filter
	limit  int
	query  uint64 // sum of what cursors are good for
	after  string // the key of the cursor
}

func newListing(group string, request *viewspb.ListRequest) (l listing, err error) {
	if l.filter, err = newFilter(request.Filter); err != nil {
		return l, err
	}
	l.limit = int(request.Limit)
	if l.limit == 0 {
		l.limit = defaultLimit
	}
	if l.limit < 0 || l.limit > maxLimit {
		return l, &badRequest{"limit", fmt.Sprintf("it takes a number from 1 to %d; next_cursor has the rest", maxLimit)}
	}
	l.query = sum(group, request.Filter)
	if request.Cursor != "" {
		l.after, err = decodeListCursor(request.Cursor, l.query)
	}
	return l, err
}

// list answers a page of the rows that pass, in the order of their keys, of some partitions, or of all where only is nil.
func (t *Table) list(ctx context.Context, request *viewspb.ListRequest, only []int32) (page, error) {
	l, err := newListing(t.c.Group, request)
	if err != nil {
		return page{}, err
	}
	r, err := t.ready()
	if err != nil {
		return page{}, err
	}
	stores := r.stores()
	if only != nil {
		var some []*tablestore.Store
		for _, p := range only {
			if int(p) >= len(stores) {
				return page{}, &NotReadyError{fmt.Sprintf("the table has no partition %d", p)}
			}
			some = append(some, stores[p])
		}
		stores = some
	}
	fresh := r.freshness()
	out, err := l.read(ctx, t.describer, stores)
	if err != nil {
		return page{}, t.failed(err)
	}
	out.fresh = fresh
	return out, nil
}

// read answers a page of the rows of stores. It does not end between rows of one key, of which each partition may have its own where calls are ordered: cursors
// name keys.
func (l listing) read(ctx context.Context, d describer, stores []*tablestore.Store) (out page, err error) {
	it, err := iterate(stores, l.filter.prefix, l.after)
	if err != nil {
		return page{}, err
	}
	defer it.release()
	begun, read := time.Now(), 0
	last, full := "", false
	for it.next() {
		key := string(it.key())
		if !strings.HasPrefix(key, l.filter.prefix) {
			return out, nil
		}
		if full && key != last {
			out.next = encodeListCursor(l.query, last)
			return out, nil
		}
		last = key
		out.scanned++
		read += len(it.value())
		if row := parseRow(it.value()); !row.expired(begun) && l.filter.passes(row) {
			out.entries = append(out.entries, d.summary(key, row))
		}
		spent := out.scanned >= pageRows || read >= pageBytes || out.scanned%256 == 0 && (time.Since(begun) > pageTime || ctx.Err() != nil)
		full = full || spent || len(out.entries) == l.limit
	}
	return out, it.err
}

// merge makes one page of those of different partitions: up to where all of them have come, and to the limit.
func (l listing) merge(pages []page) (out page, err error) {
	upTo, more := "", false
	for i, p := range pages {
		out.entries, out.scanned = append(out.entries, p.entries...), out.scanned+p.scanned
		if i == 0 || p.fresh.AsOf.Before(out.fresh.AsOf) {
			out.fresh.AsOf = p.fresh.AsOf
		}
		out.fresh.Lag += p.fresh.Lag
		if p.next == "" {
			continue
		}
		last, err := decodeListCursor(p.next, l.query)
		if err != nil {
			return page{}, err
		}
		if !more || last < upTo {
			upTo, more = last, true
		}
	}
	slices.SortFunc(out.entries, func(a, b *viewspb.Entry) int { return strings.Compare(viewspb.KeyOf(a), viewspb.KeyOf(b)) })
	if more {
		out.entries = slices.DeleteFunc(out.entries, func(e *viewspb.Entry) bool { return viewspb.KeyOf(e) > upTo })
	}
	if len(out.entries) > l.limit {
		last := viewspb.KeyOf(out.entries[l.limit-1])
		n := l.limit
		for n < len(out.entries) && viewspb.KeyOf(out.entries[n]) == last { // as in read
			n++
		}
		if n < len(out.entries) {
			out.entries, upTo, more = out.entries[:n], last, true
		}
	}
	if more {
		out.next = encodeListCursor(l.query, upTo)
	}
	return out, nil
}
