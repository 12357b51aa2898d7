package grpcout

import (
	"context"
	"errors"
	"sync"
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
	places places              // of attempts that are under way
	rate   *rate.Limiter       // infinite where any number may begin
	head   *semaphore.Weighted // one that waits for the rate. The others wait behind it: a place in the future that nobody takes up would be lost

	mu     sync.Mutex // guards what follows
	limits PaceLimits
	bounds context.Context // ends when the bounds change
	change context.CancelFunc
}

// NewPace makes a pace, which has no goroutines. It is nil where there is nothing to bound. The name is what messages and observers call it.
func NewPace(name string, l PaceLimits) *Pace {
	if l.MaxInFlight <= 0 && l.Calls <= 0 {
		return nil
	}
	p := &Pace{name: name, limits: l, rate: rate.NewLimiter(l.rate()), head: semaphore.NewWeighted(1)}
	p.places.set(l.MaxInFlight)
	p.bounds, p.change = context.WithCancel(context.Background())
	return p
}

// rate is how often attempts may begin.
func (l PaceLimits) rate() (limit rate.Limit, burst int) {
	if l.Calls <= 0 {
		return rate.Inf, 0
	}
	return rate.Limit(float64(l.Calls) / l.Per.Seconds()), max(l.Burst, 1)
}

// Set changes the bounds. Those who wait are let in as the new ones allow; what is under way goes on, and counts.
func (p *Pace) Set(l PaceLimits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l == p.limits {
		return
	}
	p.limits = l
	limit, burst := l.rate()
	p.rate.SetLimit(limit)
	p.rate.SetBurst(burst)
	p.places.set(l.MaxInFlight)
	p.change()
	p.bounds, p.change = context.WithCancel(context.Background())
}

// errStale ends a wait for a turn that the breaker would not let be used, and one at a breaker whose target is not called any more.
var errStale = errors.New("the breaker has opened")

// enter waits for a turn until ctx ends, which must be given back with leave. It is not waited for where stale says that it is in vain, and
// not where it would come after the deadline.
func (p *Pace) enter(ctx context.Context, stale func() bool) error {
	if err := p.places.take(ctx); err != nil {
		return err
	}
	err := p.begin(ctx, stale)
	if err != nil {
		p.leave()
	}
	return err
}

// begin waits for the rate.
func (p *Pace) begin(ctx context.Context, stale func() bool) error {
	if err := p.head.Acquire(ctx, 1); err != nil {
		return err
	}
	defer p.head.Release(1)
	if stale() {
		return errStale
	}
	for changed := true; changed; {
		var err error
		if changed, err = p.awaitRate(ctx); err != nil {
			return err
		}
	}
	if stale() {
		return errStale
	}
	return nil
}

// awaitRate waits for the rate, as long as the bounds do not change.
func (p *Pace) awaitRate(ctx context.Context) (changed bool, err error) {
	p.mu.Lock()
	bounds := p.bounds
	p.mu.Unlock()
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(bounds, cancel)()
	switch err := p.rate.Wait(waiting); {
	case err == nil:
		return false, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case bounds.Err() != nil:
		return true, nil
	}
	return false, context.DeadlineExceeded // it would be, by then
}

// tryEnter is enter where there is nothing to wait for.
func (p *Pace) tryEnter() bool {
	if !p.places.tryTake() {
		return false
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
	if p != nil {
		p.places.give()
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
	observer := c.policy.Load().Observer
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
