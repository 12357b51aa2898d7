package views

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/wire"
	"kafkagrpc/views/viewspb"
)

const (
	// maxWatchers is for one table. Each has a goroutine and a connection, but no queue.
	maxWatchers = 2000
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
func (t *Table) watch(ctx context.Context, request *viewspb.WatchRequest, send func(*viewspb.WatchResponse) error) error {
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
	w, err := t.subscribe(f, request)
	if err != nil {
		return err
	}
	defer w.close()
	if err := send(&viewspb.WatchResponse{Cursor: w.cursor()}); err != nil {
		return err
	}
	if err := w.replay(ctx, send); err != nil {
		return err
	}
	for {
		changes, err := w.take(ctx)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if err := w.pass(c, send); err != nil {
				return err
			}
		}
	}
}

// watcher is one reader of the feed.
type watcher struct {
	table *Table
	f     filter
	id    string  // of the topic
	epoch int     // of the feed
	at    uint64  // number of the next change to take
	next  []int64 // by partition: offset of the next change to pass
}

func (t *Table) subscribe(f filter, request *viewspb.WatchRequest) (*watcher, error) {
	t.feed.mu.Lock()
	defer t.feed.mu.Unlock()
	if t.feed.watchers >= maxWatchers {
		return nil, &tooMany{fmt.Sprintf("the table has %d watchers already, which is the most: try again later, or at another instance", maxWatchers)}
	}
	w := &watcher{table: t, f: f, id: t.feed.id, epoch: t.feed.epoch, at: t.feed.first + uint64(len(t.feed.changes))}
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
	w.table.feed.mu.Lock()
	defer w.table.feed.mu.Unlock()
	w.table.feed.watchers--
}

func (w *watcher) cursor() string { return encodeWatchCursor(w.id, w.next) }

// replay passes what the feed has forgotten, or never had, from the topic itself.
func (w *watcher) replay(ctx context.Context, send func(*viewspb.WatchResponse) error) error {
	for round := 0; ; round++ {
		missing := w.missing()
		if len(missing) == 0 {
			return nil
		}
		if round == replayRounds {
			return errSlow
		}
		if err := w.read(ctx, missing, send); err != nil {
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
	var missing []kafka.Span
	for i, to := range w.table.low() {
		if w.next[i] < to {
			missing = append(missing, kafka.Span{Partition: int32(i), From: w.next[i], To: to})
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

func (w *watcher) read(ctx context.Context, missing []kafka.Span, send func(*viewspb.WatchResponse) error) (err error) {
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
			return w.pass(&change{partition: r.Partition, offset: r.Offset, key: string(r.Key), value: r.Value}, send)
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

// take waits for changes in the feed.
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
		changed := f.await()
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pass sends a change if it passes and was not passed before.
func (w *watcher) pass(c *change, send func(*viewspb.WatchResponse) error) error {
	if c.offset < w.next[c.partition] {
		return nil
	}
	w.next[c.partition] = c.offset + 1
	if !w.passes(c) {
		return nil
	}
	response := &viewspb.WatchResponse{Cursor: w.cursor()}
	if c.value == nil {
		removed := &viewspb.Removed{}
		removed.Key, removed.RawKey = textKey(c.key)
		response.Change = &viewspb.WatchResponse_Removed{Removed: removed}
	} else {
		response.Change = &viewspb.WatchResponse_Entry{Entry: w.table.summary(c.key, c.row())}
	}
	return send(response)
}

// passes takes removals where nothing but a prefix is asked for: what the row was is not known any more.
func (w *watcher) passes(c *change) bool {
	return strings.HasPrefix(c.key, w.f.prefix) && w.f.passes(c.row())
}
