package views

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

const (
	// watchRest is how long a watcher is sent nothing, at most: both sides then see that the other is there.
	watchRest = 5 * time.Second
	// maxReplays is how many watchers may read the topic at the same time, to go on from where they were.
	maxReplays = 4
	// replayRounds is how often one watcher reads the topic until the feed has the rest.
	replayRounds = 5
	// replayPatience is how long a watcher waits for its turn to read the topic.
	replayPatience = 10 * time.Second
)

// tooMany is a limit of what is served at the same time.
type tooMany struct{ reason string }

func (e *tooMany) Error() string { return e.reason }

// watched is the filter of a request that is right, but for its cursor.
func watched(request *viewspb.WatchRequest) (filter, error) {
	switch {
	case request.Recent < 0 || request.Recent > maxLimit:
		return filter{}, &badRequest{"recent", fmt.Sprintf("it takes a number from 0 to %d", maxLimit)}
	case request.Recent > 0 && request.Cursor != "":
		return filter{}, &badRequest{"recent", "it cannot be given with a cursor"}
	default:
		return newFilter(request.Filter)
	}
}

// watch calls send for the changes that pass, from those that the request names, until ctx ends, send fails, or there is
// nothing more to be had. The first call has only a cursor.
func (t *Table) watch(ctx context.Context, client string, request *viewspb.WatchRequest, send func(*viewspb.WatchResponse) error) error {
	f, err := watched(request)
	if err != nil {
		return err
	}
	r, err := t.ready()
	if err != nil {
		return err
	}
	from := place{topic: r.topicID, stored: r.positions(), recent: int(request.Recent), passes: f.passesChange}
	if request.Cursor != "" {
		if from.after, err = decodeWatchCursor(request.Cursor, r.topicID, len(r.parts)); err != nil {
			return err
		}
	}
	s, err := t.feed.subscribe(client, from)
	if err != nil {
		return err
	}
	defer s.close()
	w := &watcher{subscription: s, table: t, f: f, to: send, rest: time.NewTimer(watchRest)}
	defer w.rest.Stop()
	if err := w.send(&viewspb.WatchResponse{}); err != nil {
		return err
	}
	if err := w.replay(ctx); err != nil {
		return err
	}
	for {
		knew := !w.asOf.IsZero()
		changes, err := w.take(ctx, w.rest.C)
		if err != nil {
			return err
		}
		if !knew && !w.asOf.IsZero() {
			w.sent = time.Time{} // it has caught up, which beat tells at once
		}
		for _, c := range changes {
			if err := w.change(c); err != nil {
				return err
			}
		}
		if err := w.beat(); err != nil {
			return err
		}
	}
}

// watcher sends the changes that pass to one client.
type watcher struct {
	*subscription
	table *Table
	f     filter
	to    func(*viewspb.WatchResponse) error
	sent  time.Time // when something was sent last
	rest  *time.Timer
}

// send sends a message, with the cursor and how fresh the watcher is.
func (w *watcher) send(m *viewspb.WatchResponse) error {
	m.Cursor, m.Freshness = w.cursor(), freshnessOf(w.freshness())
	w.sent = time.Now()
	w.rest.Reset(watchRest)
	return w.to(m)
}

// beat sends a message without a change if there was none for long.
func (w *watcher) beat() error {
	if time.Since(w.sent) < watchRest {
		return nil
	}
	return w.send(&viewspb.WatchResponse{})
}

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
			if err := w.change(&change{partition: r.Partition, offset: r.Offset, key: string(r.Key), value: r.Value}); err != nil {
				return err
			}
			return w.beat()
		})
		if err != nil {
			return err
		}
		w.passed(span)
	}
	return nil
}

// change sends a change if it passes and was not passed before.
func (w *watcher) change(c *change) error {
	if !w.pass(c) || !w.f.passesChange(c) {
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

// passesChange takes removals where nothing but a prefix is asked for: what the row was is not known any more.
func (f filter) passesChange(c *change) bool {
	return strings.HasPrefix(c.key, f.prefix) && f.passes(c.row())
}
