package grpcout

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// PaceLimits are the bounds of a Pace; what is 0 bounds nothing.
type PaceLimits struct {
	MaxInFlight int           // attempts at once
	Calls       int           // attempts that begin in each Per
	Per         time.Duration // of Calls
	Burst       int           // attempts that may begin at once after a rest, at least 1
}

// Pace bounds the attempts at a service, by any number of Callers and targets: how many are under way, and how many begin in a time. Those
// that come first go first. A nil one bounds nothing. Safe for concurrent use.
type Pace struct {
	name   string
	places *semaphore.Weighted // of attempts that are under way; nil: any number
	rate   *rate.Limiter       // nil: any
	head   *semaphore.Weighted // one that waits for the rate. The others wait behind it: a place in the future that nobody takes up would be lost
}

// NewPace makes a pace, which has no goroutines. It is nil where there is nothing to bound. The name is what messages and observers call it.
func NewPace(name string, l PaceLimits) *Pace {
	if l.MaxInFlight <= 0 && l.Calls <= 0 {
		return nil
	}
	p := &Pace{name: name}
	if l.MaxInFlight > 0 {
		p.places = semaphore.NewWeighted(int64(l.MaxInFlight))
	}
	if l.Calls > 0 {
		p.rate = rate.NewLimiter(rate.Limit(float64(l.Calls)/l.Per.Seconds()), max(l.Burst, 1))
		p.head = semaphore.NewWeighted(1)
	}
	return p
}

// errStale ends a wait for a turn that the breaker would not let be used.
var errStale = errors.New("the breaker has opened")

// enter waits for a turn until ctx ends, which must be given back with leave. It is not waited for where stale says that it is in vain, and
// not where it would come after the deadline.
func (p *Pace) enter(ctx context.Context, stale func() bool) error {
	if p.places != nil {
		if err := p.places.Acquire(ctx, 1); err != nil {
			return err
		}
	}
	err := p.begin(ctx, stale)
	if err != nil {
		p.leave()
	}
	return err
}

// begin waits for the rate.
func (p *Pace) begin(ctx context.Context, stale func() bool) error {
	if p.rate != nil {
		if err := p.head.Acquire(ctx, 1); err != nil {
			return err
		}
		defer p.head.Release(1)
	}
	if stale() {
		return errStale
	}
	if p.rate == nil {
		return nil
	}
	if err := p.rate.Wait(ctx); err != nil {
		if ctx.Err() == nil {
			return context.DeadlineExceeded // it would be, by then
		}
		return ctx.Err()
	}
	if stale() {
		return errStale
	}
	return nil
}

// tryEnter is enter where there is nothing to wait for.
func (p *Pace) tryEnter() bool {
	if p.places != nil && !p.places.TryAcquire(1) {
		return false
	}
	if p.rate == nil {
		return true
	}
	if p.head.TryAcquire(1) {
		defer p.head.Release(1)
		if p.rate.Allow() {
			return true
		}
	}
	p.leave()
	return false
}

// leave ends a turn.
func (p *Pace) leave() {
	if p != nil && p.places != nil {
		p.places.Release(1)
	}
}

// queue is where the attempts of a call wait for their turn, who is told when one begins and ends to, if anybody, and when it is not waited for.
type queue struct {
	pace    *Pace
	waiting func(bool)
	park    *parking // at the breaker and in pauses; nil: never
}

// turn waits until the pace lets the attempt of a pass go on, and answers for how long it has waited. Without a turn the pass is
// given back.
func (c *Caller) turn(ctx context.Context, q queue, method string, b *breaker, p pass) (waited time.Duration, err error) {
	if q.pace == nil {
		return 0, nil
	}
	observer := c.policy.Observer
	if !q.pace.tryEnter() {
		begun := time.Now()
		done := observer.Waits(q.pace.name)
		if q.waiting != nil {
			q.waiting(true)
			defer q.waiting(false)
		}
		err = c.awaitTurn(ctx, q.pace, func() bool { return b.stale(p) })
		done()
		waited = time.Since(begun)
	}
	observer.Paced(ctx, method, waited)
	if err != nil {
		b.leave(p, unknown)
	}
	return waited, err
}

func (c *Caller) awaitTurn(ctx context.Context, pace *Pace, stale func() bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.client.life, func() { cancel(errClosed) })()
	err := pace.enter(ctx, stale)
	if err != nil && errors.Is(context.Cause(ctx), errClosed) {
		return errClosed
	}
	return err
}
