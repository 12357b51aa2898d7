package views

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

const (
	// maxWatchers is for one table. Each has a goroutine and a connection, but no queue.
	maxWatchers = 2000
	// maxClientWatchers are those of one client: none can take the places of the others.
	maxClientWatchers = 200
	// watchRest is how long a watcher is sent nothing, at most: both sides then see that the other is there.
	watchRest = 5 * time.Second
	// maxReplays is how many watchers may read the topic at the same time, to go on from where they were.
	maxReplays = 4
	// replayRounds is how often one watcher reads the topic until the feed has the rest.
	replayRounds = 5
	// watchBatch is how many changes a watcher takes from the feed at once.
	watchBatch = 64
)

// tooMany is a limit of what is served at the same time.
type tooMany struct{ reason string }

func (e *tooMany) Error() string { return e.reason }

// watch calls send for the changes that pass, from those that the request names, until ctx ends, send fails, or there is
// nothing more to be had. The first call has only a cursor.
func (t *Table) watch(ctx context.Context, client string, request *viewspb.WatchRequest, send func(*viewspb.WatchResponse) error) error {
	f, err := newFilter(request.Filter)
	if err != nil {
		return err
	}
	if request.Recent < 0 || request.Recent > maxLimit {
		return &badRequest{"recent", fmt.Sprintf("it takes a number from 0 to %d", maxLimit)}
	}
	if request.Recent > 0 && request.Cursor != "" {
		return &badRequest{"recent", "it cannot be given with a cursor"}
	}
	if _, err := t.ready(); err != nil {
		return err
	}
	w, err := t.subscribe(client, f, request, send)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.send(&viewspb.WatchResponse{}); err != nil {
		return err
	}
	if err := w.replay(ctx); err != nil {
		return err
	}
	for {
		changes, err := w.take(ctx)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if err := w.pass(c); err != nil {
				return err
			}
		}
		if err := w.beat(); err != nil {
			return err
		}
	}
}

// watcher is one reader of the feed.
type watcher struct {
	table  *Table
	client string
	f      filter
	to     func(*viewspb.WatchResponse) error
	sent   time.Time // when something was sent last
	rest   *time.Timer
	id     string  // of the topic
	epoch  int     // of the feed
	at     uint64  // number of the next change to take
	next   []int64 // by partition: offset of the next change to pass

	// All changes of before asOf were passed; zero: it is not known of when. due becomes asOf when all changes below upTo were.
	asOf, due time.Time
	upTo      uint64
	lag       int64 // changes that were not passed yet, as far as it is known
}

func (t *Table) subscribe(client string, f filter, request *viewspb.WatchRequest, send func(*viewspb.WatchResponse) error) (*watcher, error) {
	t.feed.mu.Lock()
	defer t.feed.mu.Unlock()
	if t.feed.watchers >= maxWatchers {
		return nil, &tooMany{fmt.Sprintf("the table has %d watchers already, which is the most: try again later, or at another instance", maxWatchers)}
	}
	if t.feed.clients[client] >= maxClientWatchers {
		return nil, &tooMany{fmt.Sprintf("the client %s has %d watchers of the table already, which is the most for one address: end some, or watch more keys with each",
			client, maxClientWatchers)}
	}
	w := &watcher{table: t, client: client, f: f, to: send, id: t.feed.id, epoch: t.feed.epoch, at: t.feed.end()}
	w.next = t.position()
	switch {
	case request.Cursor != "":
		next, err := decodeWatchCursor(request.Cursor, t.feed.id, len(t.feed.next))
		if err != nil {
			return nil, err
		}
		w.next, w.at = next, t.feed.first
	case request.Recent > 0:
		passed := 0
		for i := len(t.feed.changes) - 1; i >= 0 && passed < int(request.Recent); i-- {
			c := t.feed.changes[i]
			w.at = t.feed.first + uint64(i)
			w.next[c.partition] = c.offset
			if w.passes(c) {
				passed++
			}
		}
	}
	t.feed.watchers++
	t.feed.clients[client]++
	if request.Cursor == "" {
		w.look()
	}
	w.rest = time.NewTimer(watchRest)
	return w, nil
}

// position is where the feed is: the offsets of the next changes. The caller holds the feed's mu.
func (t *Table) position() []int64 {
	next := slices.Clone(t.feed.next)
	t.mu.RLock()
	r := t.current
	t.mu.RUnlock()
	for i := range next {
		if next[i] >= 0 {
			continue
		}
		next[i] = 0
		if r != nil && i < len(r.parts) { // nothing was added: the store had it all
			r.parts[i].mu.RLock()
			next[i] = r.parts[i].position
			r.parts[i].mu.RUnlock()
		}
	}
	return next
}

func (w *watcher) close() {
	w.rest.Stop()
	w.table.feed.mu.Lock()
	defer w.table.feed.mu.Unlock()
	w.table.feed.watchers--
	if w.table.feed.clients[w.client]--; w.table.feed.clients[w.client] == 0 {
		delete(w.table.feed.clients, w.client)
	}
}

// send sends a message, with the cursor and how fresh the watcher is.
func (w *watcher) send(m *viewspb.WatchResponse) error {
	m.Cursor, m.Freshness = w.cursor(), freshnessOf(Freshness{AsOf: w.asOf, Lag: w.lag})
	w.sent = time.Now()
	w.rest.Reset(watchRest)
	return w.to(m)
}

// look takes from the feed how fresh the watcher is, which has passed everything below at. The caller holds the feed's mu.
func (w *watcher) look() {
	f := w.table.feed
	known := !w.asOf.IsZero()
	if w.at >= w.upTo {
		w.asOf, w.due, w.upTo = w.due, f.fresh.AsOf, f.upTo
	}
	if w.at >= w.upTo {
		w.asOf = w.due
	}
	if !known && !w.asOf.IsZero() {
		w.sent = time.Time{} // it has caught up, which beat tells at once
	}
	w.lag = f.fresh.Lag + int64(f.end()-w.at)
}

// beat sends a message without a change if there was none for long.
func (w *watcher) beat() error {
	if time.Since(w.sent) < watchRest {
		return nil
	}
	return w.send(&viewspb.WatchResponse{})
}

func (w *watcher) cursor() string { return encodeWatchCursor(w.id, w.next) }

// replay passes what the feed has forgotten, or never had, from the topic itself.
func (w *watcher) replay(ctx context.Context) error {
	for round := 0; ; round++ {
		missing := w.missing()
		if len(missing) == 0 {
			return nil
		}
		if round == replayRounds {
			return errSlow
		}
		if err := w.read(ctx, missing); err != nil {
			return err
		}
	}
}

// missing are the parts of the topic between the watcher and what the feed has.
func (w *watcher) missing() []kafka.Span {
	f := w.table.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.epoch != w.epoch {
		return nil // take tells it
	}
	w.at = max(w.at, f.first)
	w.lag = f.fresh.Lag + int64(f.end()-w.at)
	var missing []kafka.Span
	for i, to := range w.table.low() {
		if w.next[i] < to {
			missing = append(missing, kafka.Span{Partition: int32(i), From: w.next[i], To: to})
			w.lag += to - w.next[i]
		}
	}
	return missing
}

// low are the offsets from which on the feed has everything. The caller holds the feed's mu.
func (t *Table) low() []int64 {
	low := t.position()
	for i, offset := range t.feed.low {
		if offset >= 0 {
			low[i] = offset
		}
	}
	return low
}

var errNoReplay = &tooMany{fmt.Sprintf("%d watchers are already reading the topic to go on from their cursors, which is the most: try again", maxReplays)}

func (w *watcher) read(ctx context.Context, missing []kafka.Span) (err error) {
	select {
	case w.table.replays <- struct{}{}:
		defer func() { <-w.table.replays }()
	case <-time.After(replayPatience):
		return errNoReplay
	case <-ctx.Done():
		return ctx.Err()
	}
	reader, err := kafka.NewReader(w.table.c.Cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for _, span := range missing {
		err := reader.Read(ctx, w.table.c.Topic, span, func(r wire.Record) error {
			if err := w.pass(&change{partition: r.Partition, offset: r.Offset, key: string(r.Key), value: r.Value}); err != nil {
				return err
			}
			return w.beat()
		})
		if err != nil {
			return err
		}
		w.next[span.Partition] = max(w.next[span.Partition], span.To)
	}
	return nil
}

// replayPatience is how long a watcher waits for its turn to read the topic.
const replayPatience = 10 * time.Second

// take waits for changes in the feed; there are none when it is time to beat.
func (w *watcher) take(ctx context.Context) ([]*change, error) {
	f := w.table.feed
	for {
		f.mu.Lock()
		switch {
		case f.epoch != w.epoch:
			f.mu.Unlock()
			return nil, errOtherTable
		case w.at < f.first:
			f.mu.Unlock()
			return nil, errSlow
		}
		w.look()
		if i := int(w.at - f.first); i < len(f.changes) {
			changes := slices.Clone(f.changes[i:min(i+watchBatch, len(f.changes))])
			f.mu.Unlock()
			w.at += uint64(len(changes))
			return changes, nil
		}
		if err := f.ended; err != nil {
			f.mu.Unlock()
			return nil, err
		}
		if time.Since(w.sent) >= watchRest {
			f.mu.Unlock()
			return nil, nil
		}
		changed := f.await()
		f.mu.Unlock()
		select {
		case <-changed:
		case <-w.rest.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pass sends a change if it passes and was not passed before.
func (w *watcher) pass(c *change) error {
	w.lag = max(0, w.lag-1)
	if c.offset < w.next[c.partition] {
		return nil
	}
	w.next[c.partition] = c.offset + 1
	if !w.passes(c) {
		return nil
	}
	response := &viewspb.WatchResponse{}
	if c.value == nil {
		removed := &viewspb.Removed{}
		removed.Key, removed.RawKey = textKey(c.key)
		response.Change = &viewspb.WatchResponse_Removed{Removed: removed}
	} else {
		response.Change = &viewspb.WatchResponse_Entry{Entry: w.table.summary(c.key, c.row())}
	}
	return w.send(response)
}

// passes takes removals where nothing but a prefix is asked for: what the row was is not known any more.
func (w *watcher) passes(c *change) bool {
	return strings.HasPrefix(c.key, w.f.prefix) && w.f.passes(c.row())
}
