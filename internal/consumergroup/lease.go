package consumergroup

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// ErrOutOfTouch is what Consume ends with when the coordinator did not hear of the member for its session time-out, or
// has said that it is none any more.
var ErrOutOfTouch = errors.New("the group did not hear of this member for so long that its partitions may have another owner")

// lease is how long the partitions are safe from another owner: the session time-out from the last heartbeat on that the
// coordinator has answered. The group below does not show its heartbeats, and learns of a network that swallows them only
// from a time-out that is longer; so the group sends some of its own. What is written to Kafka after that, also much later
// by a producer that tries again until the network is back, may contradict what the other owner has written.
type lease struct {
	limit time.Duration
	log   *slog.Logger

	heard atomic.Pointer[time.Time] // when the last heartbeat that was answered was sent; nil: there is no session
	over  atomic.Bool
}

// found reports whether the lease has run out since Consume began.
func (l *lease) found() bool {
	if l.over.Load() {
		return true
	}
	last := l.heard.Load()
	if last == nil || apart(*last, time.Now()) <= l.limit {
		return false
	}
	l.end("no heartbeat was answered for " + l.limit.String())
	return true
}

func (l *lease) end(why string) {
	if l.over.CompareAndSwap(false, true) {
		l.log.Warn("out of touch with the group: the partitions may have another owner, so it gives them up and joins the group anew", "reason", why)
	}
}

// keep renews the lease with heartbeats of a session until ctx ends. The session has just begun.
func (l *lease) keep(ctx context.Context, beat func() error) {
	began := time.Now()
	l.heard.Store(&began)
	tick := time.NewTicker(l.limit / heartbeats)
	defer tick.Stop()
	for {
		sent := time.Now()
		switch err := beat(); {
		case err == nil:
			l.heard.Store(&sent)
		case ctx.Err() == nil && ownership(err) == lost:
			l.end(err.Error())
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			// Nothing of the session is under way any more, unless it was already too late.
			if !l.found() {
				l.heard.Store(nil)
			}
			return
		}
	}
}

// heartbeats are sent in the time of a lease.
const heartbeats = 10

// holdLease keeps the lease of a session until release is called, which waits for the heartbeat under way.
func (g *Group) holdLease(session sarama.ConsumerGroupSession) (release func()) {
	if g.options.Heartbeat == nil {
		return func() {}
	}
	member, generation := session.MemberID(), session.GenerationID()
	ctx, cancel := context.WithCancel(context.Background())
	var keeping sync.WaitGroup
	keeping.Go(func() {
		g.lease.keep(ctx, func() error { return g.options.Heartbeat(member, generation) })
	})
	return func() {
		cancel()
		keeping.Wait()
	}
}
