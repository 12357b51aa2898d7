package views

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/reflect/protodesc"

	"kafkagrpc/internal/gokalog"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/restart"
	"kafkagrpc/internal/tablestore"
)

// Config is what a Table needs.
type Config struct {
	Group   string        // consumer group whose table this is
	Topic   string        // of the table
	Loop    string        // loop topic of the group, which tells in how many partitions the table has keys; "": in all
	Ordered bool          // the row of a key is where its request was, in any partition (topology.Processing.Ordered)
	Cluster kafka.Cluster // that has the topic
	Dir     string        // where the local stores live: in a folder of the group's name; "": rows are not kept, only watched
	Log     *slog.Logger  // default slog.Default()

	// Protos are those of the catalogs: messages of methods that they have are shown decoded. nil: none.
	Protos protodesc.Resolver

	// Work is what this process works on, and does what is asked for; nil: it works on nothing.
	Work *Local

	// Masked are the names of metadata whose values are credentials, beside authorization and cookies.
	Masked []string

	// MaxAge is how stale answers may become before there are none, default 30s.
	MaxAge time.Duration
}

// Table is a copy of the table of one group. Its methods are safe for concurrent use; Run is called once.
type Table struct {
	describer
	c    Config
	log  *slog.Logger
	feed *feed
	// One place for each watcher that reads the topic.
	replays chan struct{}

	mu      sync.RWMutex
	current *replica // nil while there is none
	ended   error    // why the last one ended, until another one is ready
	nextTry time.Time
	changed chan struct{} // closed and replaced when a replica begins, recovers or ends
}

// New makes a table that is empty before Run.
func New(c Config) *Table {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.MaxAge <= 0 {
		c.MaxAge = 30 * time.Second
	}
	return &Table{describer: describer{c.Group, c.Protos, c.Masked}, c: c, log: c.Log.With("group", c.Group, "view", c.Topic), feed: newFeed(), replays: make(chan struct{}, maxReplays), changed: make(chan struct{})}
}

// Group is the consumer group whose table this is.
func (t *Table) Group() string { return t.c.Group }

// The waits between two replicas (restart.Loop).
const (
	firstWait   = 500 * time.Millisecond
	longestWait = 5 * time.Second
)

// Run keeps the copy up to date until ctx ends. It survives an outage of the brokers, and begins anew what ended by a fault
// that it cannot handle, such as a full disk, or because the topic was made anew; NotReady says why and when. Run answers nil.
func (t *Table) Run(ctx context.Context) error {
	defer t.feed.close(errClosed)
	restart.Loop{
		Name: "view", Log: t.log, Level: slog.LevelWarn,
		First: firstWait, Longest: longestWait,
		Needed: t.disk, Ended: func(err error, next time.Time) { t.set(nil, err, next) },
	}.Run(ctx, func(ctx context.Context) (time.Duration, error) {
		ready, err := t.runOnce(ctx)
		return ready, gokalog.Brief(err)
	})
	return nil
}

// disk answers why the folder of the stores cannot be written.
func (t *Table) disk(context.Context) error {
	if t.c.Dir == "" {
		return nil
	}
	return tablestore.Check(t.storeDir())
}

func (t *Table) set(r *replica, ended error, nextTry time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current, t.nextTry = r, nextTry
	if ended != nil {
		t.ended = ended
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// recovered is called when a replica has all that was in the topic when it began.
func (t *Table) recovered() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = nil
	close(t.changed)
	t.changed = make(chan struct{})
}

// replica is the copy that is kept up to date now; nil while there is none.
func (t *Table) replica() *replica {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.current
}

// NotReadyError says why a table does not answer.
type NotReadyError struct{ Reason string }

func (e *NotReadyError) Error() string { return "the view has not caught up: " + e.Reason }

// ready is the replica to ask, or a *NotReadyError.
func (t *Table) ready() (*replica, error) {
	t.mu.RLock()
	r, ended, nextTry := t.current, t.ended, t.nextTry
	t.mu.RUnlock()
	switch {
	case r == nil && !nextTry.IsZero():
		return nil, &NotReadyError{fmt.Sprintf("it ended: %v; the next try is at %s", ended, nextTry.UTC().Format(time.RFC3339))}
	case r == nil:
		return nil, &NotReadyError{"it is not running"}
	}
	if reason := r.notReady(t.c.MaxAge); reason != "" {
		if ended != nil {
			reason += fmt.Sprintf("; the last one ended: %v", ended)
		}
		return nil, &NotReadyError{reason}
	}
	return r, nil
}

// NotReady is why the table does not answer; "" if it does.
func (t *Table) NotReady() string {
	_, err := t.ready()
	var not *NotReadyError
	if errors.As(err, &not) {
		return not.Reason
	}
	return ""
}

// WaitReady returns when the table answers, or with the context's error.
func (t *Table) WaitReady(ctx context.Context) error {
	again := time.NewTicker(measureInterval / 2) // it may wait for a measurement
	defer again.Stop()
	for {
		t.mu.RLock()
		changed := t.changed
		t.mu.RUnlock()
		_, err := t.ready()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

func (t *Table) storeDir() string { return filepath.Join(t.c.Dir, t.c.Group) }
