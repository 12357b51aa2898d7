package grpcin

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/status"
)

// intake bounds the bytes of all callers' messages from before they are received until Kafka has acknowledged them. How large
// a message is, gRPC tells only with the message. So the one message of a call, which comes at once, counts as the largest that
// there may be while it is received, for a while: a caller that is slow must not keep others out. A stream may be
// silent for long: its messages count once they are there, and none is read at the bound. It is safe for concurrent use.
type intake struct {
	limit int64

	mu      sync.Mutex
	bytes   int64         // of messages that are there, and of reservations
	oldest  *reservation  // of those that count
	newest  *reservation  //
	waiters int           // for freed
	freed   chan struct{} // closed and replaced when something is given back that somebody waits for
}

// reservation is made for a message that is being received. It counts for receiveTime.
type reservation struct {
	bytes          int64 // 0: it does not count
	since          time.Time
	before, behind *reservation
}

// receiveTime is how long a message that is received counts as the largest that there may be.
const receiveTime = time.Second

func newIntake(limit int) *intake {
	return &intake{limit: int64(limit), freed: make(chan struct{})}
}

func (i *intake) add(bytes int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.bytes += int64(bytes)
}

func (i *intake) remove(bytes int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.give(int64(bytes))
}

// give is called under mu.
func (i *intake) give(bytes int64) {
	i.bytes -= bytes
	if i.waiters > 0 {
		close(i.freed)
		i.freed = make(chan struct{})
		i.waiters = 0
	}
}

// room waits until the bound is not reached. Its error is the status of the call.
func (i *intake) room(ctx context.Context) error {
	return i.wait(ctx, func(time.Time) bool { return i.bytes < i.limit })
}

// reserve waits until there is room for a message of so many bytes. However large they may be, a few are received at the same
// time. Its error is the status of the call.
func (i *intake) reserve(ctx context.Context, r *reservation, bytes int) error {
	counts := max(1, min(int64(bytes), i.limit/4))
	return i.wait(ctx, func(now time.Time) bool {
		if i.bytes > 0 && i.bytes+counts > i.limit {
			return false
		}
		*r = reservation{bytes: counts, since: now, before: i.newest}
		if i.newest != nil {
			i.newest.behind = r
		} else {
			i.oldest = r
		}
		i.newest = r
		i.bytes += r.bytes
		return true
	})
}

// received ends a reservation: the message is there, or will not come.
func (i *intake) received(r *reservation) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.release(r)
}

// release is called under mu.
func (i *intake) release(r *reservation) {
	if r.bytes == 0 {
		return
	}
	if r.before != nil {
		r.before.behind = r.behind
	} else {
		i.oldest = r.behind
	}
	if r.behind != nil {
		r.behind.before = r.before
	} else {
		i.newest = r.before
	}
	bytes := r.bytes
	*r = reservation{}
	i.give(bytes)
}

// wait waits until holds does, which is called under mu.
func (i *intake) wait(ctx context.Context, holds func(now time.Time) bool) error {
	for {
		now := time.Now()
		i.mu.Lock()
		for i.oldest != nil && now.Sub(i.oldest.since) >= receiveTime {
			i.release(i.oldest)
		}
		if holds(now) {
			i.mu.Unlock()
			return nil
		}
		i.waiters++
		freed, oldest := i.freed, i.oldest
		var expires *time.Timer
		var expired <-chan time.Time
		if oldest != nil {
			expires = time.NewTimer(oldest.since.Add(receiveTime).Sub(now))
			expired = expires.C
		}
		i.mu.Unlock()
		select {
		case <-freed:
		case <-expired:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		if expires != nil {
			expires.Stop()
		}
	}
}
