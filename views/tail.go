package views

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/lovoo/goka/storage"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/views/viewspb"
)

const (
	// tailRecords of each partition, at most, are read for those who want the last changes.
	tailRecords = 1000
	// tailPatience is how long a watcher waits for the tail to be at the end of the topic.
	tailPatience = 10 * time.Second
	// tailRest is for how long the topic is read when nobody watches any more.
	tailRest = time.Minute
)

// tail reads the table's topic while somebody watches: a Table that keeps no rows. All instances see the same changes, in whose
// partitions ever they are, and rebalances do not matter to it. Its methods are safe for concurrent use.
type tail struct {
	c Config

	mu      sync.Mutex
	users   int
	table   *Table // nil while nobody watches
	end     context.CancelFunc
	rest    *time.Timer // nil while somebody watches
	closed  bool
	running sync.WaitGroup
}

// take answers the table to watch, until release.
func (t *tail) take() (*Table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, errClosed
	case t.users >= maxWatchers:
		return nil, errWatchers
	case t.table == nil:
		table := New(t.c)
		ctx, cancel := context.WithCancel(context.Background()) // until the last watcher is gone
		t.table, t.end = table, cancel
		t.running.Go(func() { _ = table.Run(ctx) }) // which answers nil
	case t.rest != nil:
		t.rest.Stop()
		t.rest = nil
	}
	t.users++
	return t.table, nil
}

func (t *tail) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users--; t.users > 0 || t.closed {
		return
	}
	var rest *time.Timer
	rest = time.AfterFunc(tailRest, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.rest == rest { // else somebody came just now
			t.stop()
		}
	})
	t.rest = rest
}

// stop ends the table. The caller holds mu.
func (t *tail) stop() {
	if t.table != nil {
		t.end()
	}
	if t.rest != nil {
		t.rest.Stop()
	}
	t.table, t.rest = nil, nil
}

// close also tells those who watch.
func (t *tail) close() {
	t.mu.Lock()
	t.closed = true
	t.stop()
	t.mu.Unlock()
	t.running.Wait()
}

func (t *tail) watchers() (n int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table != nil {
		_, n = t.table.feed.counts()
	}
	return n
}

// watch waits until the topic is read.
func (l *Local) watch(ctx context.Context, client string, request *viewspb.WatchRequest, send func(*viewspb.WatchResponse) error) error {
	if _, err := watched(request); err != nil {
		return err
	}
	table, err := l.tail.take()
	if err != nil {
		return err
	}
	defer l.tail.release()
	waiting, cancel := context.WithTimeout(ctx, tailPatience)
	defer cancel()
	if err := table.WaitReady(waiting); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	return table.watch(ctx, client, request, send)
}

// beginning is where a partition is begun that ends at end.
type beginning func(topic string, partition int32, end int64) (int64, error)

// lately begins with the last records.
func lately(reader *kafka.Reader, partitions int) beginning {
	records := int64(max(1, min(tailRecords, feedChanges/partitions)))
	return func(topic string, partition int32, end int64) (int64, error) {
		start, err := reader.Start(topic, partition)
		if err != nil {
			return 0, err
		}
		return max(start, end-records), nil
	}
}

// noStore keeps the offset alone.
type noStore struct {
	storage.Storage // none

	mu   sync.Mutex
	next int64
}

func (s *noStore) SetOffset(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = offset + 1
	return nil
}

func (s *noStore) GetOffset(def int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == 0 {
		return def, nil
	}
	return s.next - 1, nil
}
