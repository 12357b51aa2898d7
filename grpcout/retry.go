package grpcout

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

// Policy says how often and how long a [Caller] tries.
type Policy struct {
	Retry   Retry
	Breaker Breaker

	// AttemptTimeout is the deadline of each attempt of a unary call whose context has none; 0: none. A call with a
	// deadline has that one for all its attempts.
	AttemptTimeout time.Duration

	// AttemptIdle ends an attempt of a unary call that has no deadline of either kind, as the service is told of none; 0: never.
	AttemptIdle time.Duration

	// BreakerChanged is called when the breaker of a target has opened or closed, if it is not nil, with the result
	// that did it. It must be safe for concurrent use and must not wait.
	BreakerChanged func(t Target, open bool, by Result)

	Observer Observer // nil: nobody
}

// Observer is told what becomes of the calls of a Caller. It must be safe for concurrent use and must not wait.
type Observer interface {
	// Attempt is called before an attempt, which gets the context that it answers; the call's nth. A probe is the one that
	// the open breaker of the target lets through.
	Attempt(ctx context.Context, method string, n int, probe bool) context.Context
	// Attempted is called after it.
	Attempted(method string, t Target, r Result)
	// Held is called when the breaker has held a call back, and let it go on.
	Held(ctx context.Context, d time.Duration)
	// Waits is called when an attempt begins to wait for its turn at a service with a pace of that name, and what it answers at the end.
	Waits(pace string) (done func())
	// Paced is called when an attempt at a service with a pace has its turn, or will have none, after a wait that may be 0.
	Paced(ctx context.Context, method string, d time.Duration)
	// Backoff is called before a pause, after r.
	Backoff(ctx context.Context, pause time.Duration, r Result)
}

// unobserved is the observer where there is none.
type unobserved struct{}

func (unobserved) Attempt(ctx context.Context, _ string, _ int, _ bool) context.Context { return ctx }
func (unobserved) Attempted(string, Target, Result)                                     {}
func (unobserved) Held(context.Context, time.Duration)                                  {}
func (unobserved) Waits(string) func()                                                  { return func() {} }
func (unobserved) Paced(context.Context, string, time.Duration)                         {}
func (unobserved) Backoff(context.Context, time.Duration, Result)                       {}

// Retry makes failed attempts again. The zero value never does.
type Retry struct {
	Codes   []codes.Code  // statuses that another attempt may cure
	Initial time.Duration // the pause after the first attempt is random, from 0 to this. It doubles with each further one
	Max     time.Duration // of the longest pause; not below Initial

	// MaxElapsed bounds the time from the first attempt to the begin of the last one, besides the deadline; 0: one
	// attempt. Time for which the breaker held the call back does not count, nor do probes that were made for it, nor waits for a turn.
	MaxElapsed time.Duration
}

// Caller makes calls through a Client under one policy. It has a breaker for each target. Safe for concurrent use.
type Caller struct {
	client *Client
	policy atomic.Pointer[Policy]
	once   func(context.Context, Target, Call) (r Result, answered bool)                  // one attempt
	stream func(context.Context, Target, Stream, *sent, func()) (r Result, answered bool) // one attempt

	mu       sync.Mutex // guards what follows
	breakers map[Target]*breaker
}

// NewCaller makes a caller, which ends with its client.
func NewCaller(c *Client, p Policy) *Caller {
	caller := &Caller{client: c, once: c.unary, stream: c.stream, breakers: map[Target]*breaker{}}
	caller.SetPolicy(p)
	return caller
}

// SetPolicy is how attempts are made from now on, also those of calls that are under way.
func (c *Caller) SetPolicy(p Policy) {
	if p.Observer == nil {
		p.Observer = unobserved{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy.Store(&p)
	for _, b := range c.breakers {
		b.setPolicy(p.Breaker)
	}
}

// Keep forgets the breakers of targets that are not among these. Calls that one of them holds go on, to where their service has moved.
func (c *Caller) Keep(targets ...Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t, b := range c.breakers {
		if !slices.Contains(targets, t) {
			delete(c.breakers, t)
			b.retire()
		}
	}
}

// Moved answers where the service of a call is now. It is asked before each attempt, must be safe for concurrent use, and must not wait.
type Moved func() Target

// Unary is [Client.Unary], made again while its status is one of the policy's codes. It waits while the breaker of the
// target is open, and before each attempt for its turn where the call has a [Pace]. The result is that of the last attempt. A deadline that passes
// while the call waits is DEADLINE_EXCEEDED only where no attempt was made before. A call with a [Park] may end before it has a result. A context with a deadline must end soon after the call: what a service goes on
// sending on an attempt ends with it.
func (c *Caller) Unary(ctx context.Context, t Target, call Call) Result {
	return c.make(ctx, t, call.Method, queue{pace: call.Pace, park: call.Park.begin(time.Now())}, call.Moved, func(ctx context.Context, t Target, _ *visit) (Result, bool, bool) {
		r, answered := c.attempt(ctx, t, call)
		return r, answered, true
	})
}

// make makes attempts until one of them counts. An attempt answers its result, whether the service has sent anything, and
// whether another one may follow it. It may leave the breaker before its end, once it knows about the target.
func (c *Caller) make(ctx context.Context, t Target, method string, q queue, moved Moved, attempt func(context.Context, Target, *visit) (r Result, answered, again bool)) Result {
	if !c.client.enter() {
		return closedResult(t)
	}
	defer c.client.inFlight.Done()
	b := c.breaker(t)
	begun := time.Now()
	var uncounted time.Duration // of the time since begun
	limit := q.park.pauseLimit(c.policy.Load().Retry.Initial)
	r := q.park.before()
	if pause := q.park.pause(); pause > 0 {
		if err := sleep(ctx, pause, c.client.life.Done()); err != nil {
			return notMade(t, r, heldUntil(t, 0), err)
		}
		uncounted += pause // it was counted before
	}
	for {
		policy := c.policy.Load()
		observer := policy.Observer
		if moved != nil {
			if now := moved(); now != t || b.isRetired() {
				t, b = now, c.breaker(now)
			}
		}
		p, held, err := b.enter(ctx, c.client.life.Done(), q.park)
		uncounted += held
		if held > 0 {
			observer.Held(ctx, held)
		}
		if errors.Is(err, errParked) {
			return q.park.parked(t, r, time.Since(begun)-uncounted+q.park.elapsed(), limit, 0)
		}
		if errors.Is(err, errStale) {
			if moved == nil {
				b = c.breaker(t)
			}
			continue
		}
		if err != nil {
			return notMade(t, r, heldUntil(t, held), err)
		}
		waited, err := c.turn(ctx, q, method, b, p)
		uncounted += waited
		if errors.Is(err, errStale) {
			continue // to the breaker
		}
		if err != nil {
			return notMade(t, r, fmt.Sprintf("%s: no turn came before the deadline at the pace of `%s` (max-in-flight, rate)", t.Address, q.pace.name), err)
		}
		tried, attempts := time.Now(), r.Attempts+1
		v := &visit{caller: c, target: t, breaker: b, pass: p}
		var answered, again bool
		r, answered, again = attempt(observer.Attempt(ctx, method, attempts, p.probe), t, v)
		q.pace.leave()
		r.Attempts, r.Address = attempts, t.Address
		observer.Attempted(method, t, r)
		retryable := c.Retryable(r.Status)
		open := v.leave(verdictOn(ctx, r, answered, retryable), r)
		if !retryable || !again || errors.Is(ctx.Err(), context.Canceled) {
			return r
		}
		now := time.Now()
		if p.probe {
			uncounted += now.Sub(tried)
		}
		var pause time.Duration
		if !open { // else the breaker makes the pause
			if limit == 0 {
				limit = policy.Retry.Initial
			}
			pause = rand.N(max(limit, 1))
			if limit *= 2; limit > policy.Retry.Max || limit < 0 {
				limit = policy.Retry.Max
			}
		}
		elapsed := now.Sub(begun) - uncounted + q.park.elapsed()
		deadline, bounded := ctx.Deadline()
		if pause >= policy.Retry.MaxElapsed-elapsed || bounded && !now.Add(pause).Before(deadline) {
			r.Exhausted = true
			return r
		}
		if q.park.outlasts(now, pause) && (!open || q.park.Held) {
			return q.park.parked(t, r, elapsed, limit, pause)
		}
		observer.Backoff(ctx, pause, r)
		if err := sleep(ctx, pause, c.client.life.Done()); err != nil {
			return notMade(t, r, heldUntil(t, 0), err)
		}
	}
}

// visit is what one attempt has of the breaker. It is left once, by the attempt itself or at its end.
type visit struct {
	caller  *Caller
	target  Target
	breaker *breaker
	pass    pass

	mu   sync.Mutex
	left bool
	open bool // the breaker is, since
}

// leave gives the pass back, if it was not yet, with the result that tells about the target.
func (v *visit) leave(verdict verdict, r Result) (open bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.left {
		return v.open
	}
	v.left = true
	did, open := v.breaker.leave(v.pass, verdict)
	v.open = open
	if changed := v.caller.policy.Load().BreakerChanged; did != unchanged && changed != nil {
		changed(v.target, did == opened, r)
	}
	return open
}

func (c *Caller) attempt(ctx context.Context, t Target, call Call) (Result, bool) {
	if _, bounded := ctx.Deadline(); bounded {
		return c.once(ctx, t, call) // a context of its own would cost as much as the rest of this
	}
	timeout := c.policy.Load().AttemptTimeout
	if timeout <= 0 {
		return c.unbounded(ctx, t, call)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.once(ctx, t, call)
}

// errIdle is why an attempt without a deadline is ended.
var errIdle = errors.New("no answer came")

// unbounded is an attempt of which the service is told no deadline.
func (c *Caller) unbounded(ctx context.Context, t Target, call Call) (Result, bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := c.policy.Load().AttemptIdle
	if limit > 0 {
		defer time.AfterFunc(limit, func() { cancel(errIdle) }).Stop()
	}
	r, answered := c.once(ctx, t, call)
	if r.Status == codes.Canceled && errors.Is(context.Cause(ctx), errIdle) {
		r.Status, r.Message, r.Idle = codes.DeadlineExceeded, fmt.Sprintf("%s: %v for %v", t.Address, errIdle, limit), true
	}
	return r, answered
}

func (c *Caller) breaker(t Target) *breaker {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.breakers[t]
	if b == nil {
		b = &breaker{policy: c.policy.Load().Breaker}
		c.breakers[t] = b
	}
	return b
}

// Retryable reports whether another attempt, or another call, may cure what a status says: a result with it is not final.
func (c *Caller) Retryable(status codes.Code) bool {
	return slices.Contains(c.policy.Load().Retry.Codes, status)
}

// Open are the targets whose calls have been made so far, and whether their breakers are open.
func (c *Caller) Open() map[Target]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[Target]bool, len(c.breakers))
	for t, b := range c.breakers {
		b.mu.Lock()
		out[t] = b.open
		b.mu.Unlock()
	}
	return out
}

func verdictOn(ctx context.Context, r Result, answered, retryable bool) verdict {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return unknown
	case retryable:
		return failed
	case answered || r.Status == codes.OK:
		return worked
	}
	return unknown
}

// heldUntil says why the deadline has passed without an attempt, where the breaker held the call for that long.
func heldUntil(t Target, held time.Duration) string {
	if held > 0 {
		return fmt.Sprintf("the breaker of %s was open until the deadline", t.Address)
	}
	return fmt.Sprintf("%s: the deadline passed before the call was made", t.Address)
}

// notMade is the result of a call whose next attempt is not made, after r, because of err. why is what is said where that is the deadline.
func notMade(t Target, r Result, why string, err error) Result {
	switch {
	case errors.Is(err, errClosed):
		closed := closedResult(t)
		closed.Attempts = r.Attempts
		return closed
	case !errors.Is(err, context.DeadlineExceeded):
		return Result{Status: codes.Canceled, Message: t.Address + ": " + err.Error(), Attempts: r.Attempts}
	}
	if r.Attempts == 0 {
		return Result{Status: codes.DeadlineExceeded, Message: why}
	}
	r.Message = fmt.Sprintf("%s; the last attempt: %s", why, r.Message)
	r.Exhausted = true
	return r
}

func closedResult(t Target) Result {
	return Result{Status: codes.Unavailable, Message: t.Address + ": " + errClosed.Error()}
}

// sleep waits for d, or for the end of ctx or of the client, which are errors.
func sleep(ctx context.Context, d time.Duration, closing <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closing:
		return errClosed
	}
}
