package grpcout

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// Breaker keeps calls away from a target that fails. The zero value never does.
type Breaker struct {
	Failures int           // attempts in a row with a retryable status that open it; 0: it never opens
	Open     time.Duration // after that long one attempt at a time is made, until one succeeds
}

// breaker is the breaker of one target. It has neither a goroutine nor a timer of its own: the first of those who
// wait watches the clock.
type breaker struct {
	mu         sync.Mutex // guards what follows
	policy     Breaker
	retired    bool // its target is not called any more
	failures   int  // in a row, while closed
	open       bool
	since      time.Time // while open: when it has opened
	generation int       // how often it has opened
	until      time.Time // while open: no probe before
	probing    bool      // while open: the one probe is being made
	queue      list.List // while open: *waiter, in the order in which they came
}

// waiter is a call that the breaker holds.
type waiter struct {
	wake chan struct{} // holds one: look again
}

// pass allows one attempt; leave gives it back.
type pass struct {
	probe      bool
	generation int
}

// verdict is what an attempt says about the target.
type verdict int

const (
	unknown verdict = iota // it ended here: the deadline passed, or the caller gave up
	worked                 // the target answered
	failed                 // the status is retryable
)

// change is what a verdict did to the breaker.
type change int

const (
	unchanged change = iota
	opened
	closed
)

// enter waits while the breaker is open, until ctx ends or closing is closed, or the call is parked. held is how long it waited. With an
// error there is no pass; else it must be given back with leave.
func (b *breaker) enter(ctx context.Context, closing <-chan struct{}, park *parking) (p pass, held time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return pass{}, 0, err
	}
	select {
	case <-closing:
		return pass{}, 0, errClosed
	default:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return pass{generation: b.generation}, 0, nil
	}
	begun := time.Now()
	me := &waiter{wake: make(chan struct{}, 1)}
	place := b.queue.PushBack(me)
	defer func() {
		b.queue.Remove(place)
		b.wakeFirst() // whoever goes, with or without a pass, leaves somebody who watches the clock
		held = time.Since(begun)
	}()
	var parked <-chan time.Time
	for b.open {
		if b.retired {
			return pass{}, 0, errStale
		}
		var alarm <-chan time.Time
		if b.queue.Front() == place && !b.probing {
			left := time.Until(b.until)
			if left <= 0 {
				b.probing = true
				return pass{probe: true, generation: b.generation}, 0, nil
			}
			alarm = time.After(left) // not referenced any more, it is collected before it fires
		}
		if until := park.patience(b.since); parked == nil && !until.IsZero() {
			left := time.Until(until)
			if left <= 0 {
				return pass{}, 0, errParked
			}
			parked = time.After(left)
		}
		b.mu.Unlock()
		select {
		case <-alarm:
		case <-me.wake:
		case <-parked:
			err = errParked
		case <-ctx.Done():
			err = ctx.Err()
		case <-closing:
			err = errClosed
		}
		b.mu.Lock()
		if err != nil {
			return pass{}, 0, err
		}
	}
	return pass{generation: b.generation}, 0, nil
}

// leave gives a pass back with what its attempt showed. open tells whether the breaker is open now.
func (b *breaker) leave(p pass, v verdict) (did change, open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case p.probe:
		b.probing = false
		switch v {
		case worked:
			b.open, b.failures = false, 0
			for e := b.queue.Front(); e != nil; e = e.Next() {
				e.Value.(*waiter).signal()
			}
			return closed, false
		case failed:
			b.until = time.Now().Add(b.policy.Open)
		}
		b.wakeFirst() // after an unknown one the next probe is due at once
	case b.open || p.generation != b.generation:
		// Begun before the breaker opened: that is what it opened for.
	case v == worked:
		b.failures = 0
	case v == failed:
		b.failures++
		if b.policy.Failures > 0 && b.failures >= b.policy.Failures {
			b.open, b.since = true, time.Now()
			b.until = b.since.Add(b.policy.Open)
			b.generation++
			return opened, true
		}
	}
	return unchanged, b.open
}

// setPolicy counts from now on.
func (b *breaker) setPolicy(p Breaker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy = p
}

// retire lets those go who wait, with errStale.
func (b *breaker) retire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retired = true
	for e := b.queue.Front(); e != nil; e = e.Next() {
		e.Value.(*waiter).signal()
	}
}

func (b *breaker) isRetired() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.retired
}

// stale reports whether the breaker has opened since it gave a pass.
func (b *breaker) stale(p pass) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !p.probe && p.generation != b.generation
}

func (b *breaker) wakeFirst() {
	if first := b.queue.Front(); first != nil {
		first.Value.(*waiter).signal()
	}
}

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // it will look anyway
	}
}
