package grpcout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

// These tests replace the network, so that time is virtual.

// answer is what the service does with one attempt.
type answer struct {
	status codes.Code
	after  time.Duration
	silent bool // the status comes from here, not from the service
}

var (
	ok          = answer{status: codes.OK}
	unavailable = answer{status: codes.Unavailable}
)

// fake is a service without a network.
type fake struct {
	answer func(n int, name string) answer // of attempt n from 0, of a call of that name

	mu          sync.Mutex
	begun       time.Time
	attempts    []attempt
	inside, top int
}

type attempt struct {
	name     string
	at       time.Duration // since begun
	deadline time.Duration // left; 0: none
}

func (f *fake) once(ctx context.Context, _ Target, call Call) (Result, bool) {
	f.mu.Lock()
	a := attempt{name: call.Method, at: time.Since(f.begun)}
	if d, ok := ctx.Deadline(); ok {
		a.deadline = time.Until(d)
	}
	n := len(f.attempts)
	f.attempts = append(f.attempts, a)
	f.inside++
	f.top = max(f.top, f.inside)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.inside--
	}()
	what := f.answer(n, call.Method)
	select {
	case <-time.After(what.after):
		return Result{Status: what.status, Message: fmt.Sprint("answer ", n)}, !what.silent
	case <-ctx.Done():
		status := codes.DeadlineExceeded
		if ctx.Err() == context.Canceled {
			status = codes.Canceled
		}
		return Result{Status: status, Message: "cut"}, false
	}
}

// seen are the attempts so far.
func (f *fake) seen() []attempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.attempts)
}

func script(answers ...answer) func(int, string) answer {
	return func(n int, _ string) answer { return answers[min(n, len(answers)-1)] }
}

var target = Target{Scheme: "http", Address: "service:1"}

var retry = Retry{Codes: []codes.Code{codes.Unavailable}, Initial: 50 * time.Millisecond, Max: 10 * time.Second, MaxElapsed: 10 * time.Minute}

// bubble runs a test in virtual time, against a service that does as told.
func bubble(t *testing.T, p Policy, does func(int, string) answer, test func(t *testing.T, c *Caller, f *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client := New(Options{})
		c := NewCaller(client, p)
		f := &fake{answer: does, begun: time.Now()}
		c.once = f.once
		test(t, c, f)
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestRetryUntilItWorks(t *testing.T) {
	t.Parallel()
	bubble(t, Policy{Retry: retry}, script(unavailable, unavailable, unavailable, ok), func(t *testing.T, c *Caller, f *fake) {
		r := c.Unary(t.Context(), target, Call{})
		if r.Status != codes.OK || r.Attempts != 4 || r.Exhausted || r.Message != "answer 3" {
			t.Errorf("%+v", r)
		}
		if most := (50 + 100 + 200) * time.Millisecond; time.Since(f.begun) > most {
			t.Errorf("it took %v, want at most %v", time.Since(f.begun), most)
		}
	})
}

func TestOtherStatusesAreNotRetried(t *testing.T) {
	t.Parallel()
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if code == codes.Unavailable {
			continue
		}
		bubble(t, Policy{Retry: retry}, script(answer{status: code}), func(t *testing.T, c *Caller, f *fake) {
			if r := c.Unary(t.Context(), target, Call{}); r.Status != code || r.Attempts != 1 || r.Exhausted {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestWithoutRetries(t *testing.T) {
	t.Parallel()
	bubble(t, Policy{}, script(unavailable), func(t *testing.T, c *Caller, f *fake) {
		if r := c.Unary(t.Context(), target, Call{}); r.Status != codes.Unavailable || r.Attempts != 1 || r.Exhausted {
			t.Errorf("%+v", r)
		}
	})
	bubble(t, Policy{Retry: Retry{Codes: retry.Codes}}, script(unavailable), func(t *testing.T, c *Caller, f *fake) {
		if r := c.Unary(t.Context(), target, Call{}); r.Attempts != 1 || !r.Exhausted {
			t.Errorf("%+v", r)
		}
	})
}

func TestBackoffDoublesWithFullJitter(t *testing.T) {
	t.Parallel()
	// Each pause is uniform up to a limit that is known, so over many calls the longest and the shortest are near its ends.
	const calls = 200
	limits := []time.Duration{50, 100, 200, 400, 500, 500}
	shortest, longest := make([]time.Duration, len(limits)), make([]time.Duration, len(limits))
	p := Policy{Retry: Retry{Codes: retry.Codes, Initial: 50 * time.Millisecond, Max: 500 * time.Millisecond, MaxElapsed: time.Hour}}
	for range calls {
		answers := append(slices.Repeat([]answer{unavailable}, len(limits)), ok)
		bubble(t, p, script(answers...), func(t *testing.T, c *Caller, f *fake) {
			c.Unary(t.Context(), target, Call{})
			for i := range limits {
				pause := f.attempts[i+1].at - f.attempts[i].at
				longest[i] = max(longest[i], pause)
				if shortest[i] == 0 || pause < shortest[i] {
					shortest[i] = pause
				}
			}
		})
	}
	for i, limit := range limits {
		limit *= time.Millisecond
		// 0.75^200 is 1e-25.
		if longest[i] > limit || longest[i] < limit*3/4 || shortest[i] > limit/4 {
			t.Errorf("pause %d was %v to %v, want 0 to %v", i, shortest[i], longest[i], limit)
		}
	}
}

func TestRetriesEndAtTheDeadline(t *testing.T) {
	t.Parallel()
	for range 20 {
		bubble(t, Policy{Retry: retry, AttemptTimeout: time.Second}, script(unavailable), func(t *testing.T, c *Caller, f *fake) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			r := c.Unary(ctx, target, Call{})
			if r.Status != codes.Unavailable || !r.Exhausted || r.Attempts != len(f.attempts) || r.Attempts < 2 {
				t.Errorf("%+v", r)
			}
			if ctx.Err() != nil {
				t.Error("it waited for the deadline, though no attempt could follow")
			}
			// The attempt time-out is for calls that have no deadline.
			if first := f.attempts[0].deadline; first != 3*time.Second {
				t.Errorf("the first attempt had %v left", first)
			}
		})
	}
}

func TestRetriesEndAtMaxElapsed(t *testing.T) {
	t.Parallel()
	for range 20 {
		p := Policy{Retry: retry, AttemptTimeout: 30 * time.Second}
		p.Retry.MaxElapsed = 20 * time.Second
		bubble(t, p, script(answer{status: codes.Unavailable, after: time.Second}), func(t *testing.T, c *Caller, f *fake) {
			r := c.Unary(t.Context(), target, Call{})
			if r.Status != codes.Unavailable || !r.Exhausted || r.Attempts != len(f.attempts) || r.Attempts < 2 {
				t.Errorf("%+v", r)
			}
			if last := f.attempts[len(f.attempts)-1].at; last >= 20*time.Second {
				t.Errorf("the last attempt began after %v", last)
			}
			for _, a := range f.attempts {
				if a.deadline != 30*time.Second {
					t.Errorf("an attempt had %v", a.deadline)
				}
			}
		})
	}
}

func TestAttemptThatTimesOut(t *testing.T) {
	t.Parallel()
	slow := answer{status: codes.OK, after: time.Hour}
	p := Policy{Retry: retry, AttemptTimeout: 30 * time.Second}
	bubble(t, p, script(slow, ok), func(t *testing.T, c *Caller, f *fake) {
		if r := c.Unary(t.Context(), target, Call{}); r.Status != codes.DeadlineExceeded || r.Attempts != 1 || r.Exhausted {
			t.Errorf("final: %+v", r)
		}
	})
	p.Retry.Codes = []codes.Code{codes.DeadlineExceeded}
	bubble(t, p, script(slow, ok), func(t *testing.T, c *Caller, f *fake) {
		if r := c.Unary(t.Context(), target, Call{}); r.Status != codes.OK || r.Attempts != 2 {
			t.Errorf("retried: %+v", r)
		}
	})
	bubble(t, p, script(slow), func(t *testing.T, c *Caller, f *fake) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if r := c.Unary(ctx, target, Call{}); r.Status != codes.DeadlineExceeded || r.Attempts != 1 || !r.Exhausted {
			t.Errorf("at the caller's deadline: %+v", r)
		}
	})
}

func TestCancelDuringBackoff(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: retry}
	p.Retry.Initial, p.Retry.Max = time.Hour, time.Hour
	p.Retry.MaxElapsed = 100 * time.Hour
	bubble(t, p, script(unavailable), func(t *testing.T, c *Caller, f *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan Result, 1)
		go func() { results <- c.Unary(ctx, target, Call{}) }()
		synctest.Wait()
		cancel()
		if r := <-results; r.Status != codes.Canceled || r.Exhausted {
			t.Errorf("%+v", r)
		}
		if r := c.Unary(ctx, target, Call{}); r.Status != codes.Canceled || r.Attempts != 0 {
			t.Errorf("a call that is canceled already: %+v", r)
		}
	})
}

func TestCloseEndsThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := New(Options{})
		p := Policy{Retry: retry, Breaker: Breaker{Failures: 1, Open: time.Hour}}
		c := NewCaller(client, p)
		backingOff := NewCaller(client, Policy{Retry: Retry{Codes: retry.Codes, Initial: time.Hour, Max: time.Hour, MaxElapsed: 1000 * time.Hour}})
		f := &fake{answer: script(unavailable), begun: time.Now()}
		c.once, backingOff.once = f.once, f.once
		results := make(chan Result, 6)
		for _, caller := range []*Caller{c, c, c, backingOff, backingOff, backingOff} {
			go func() { results <- caller.Unary(t.Context(), target, Call{}) }()
		}
		synctest.Wait()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		for range cap(results) {
			if r := <-results; r.Status != codes.Unavailable || !strings.Contains(r.Message, "the client is closed") {
				t.Errorf("%+v", r)
			}
		}
		if r := c.Unary(t.Context(), target, Call{}); r.Status != codes.Unavailable || r.Attempts != 0 {
			t.Errorf("a later call: %+v", r)
		}
		if time.Since(f.begun) != 0 {
			t.Errorf("closing took %v", time.Since(f.begun))
		}
	})
}

func TestAttemptsWithoutADeadline(t *testing.T) {
	t.Parallel()
	slow := answer{status: codes.OK, after: time.Hour}
	p := Policy{Retry: retry, AttemptIdle: 5 * time.Minute}
	bubble(t, p, script(unavailable, slow), func(t *testing.T, c *Caller, f *fake) {
		r := c.Unary(t.Context(), target, Call{})
		if r.Status != codes.DeadlineExceeded || r.Attempts != 2 || !r.Idle || !strings.Contains(r.Message, "service:1: no answer came for 5m0s") {
			t.Errorf("an idle one: %+v", r)
		}
		for _, a := range f.seen() {
			if a.deadline != 0 {
				t.Errorf("the service is told of a deadline: %+v", a)
			}
		}
	})
	p.AttemptIdle = 0
	bubble(t, p, script(slow), func(t *testing.T, c *Caller, f *fake) {
		if r := c.Unary(t.Context(), target, Call{}); r.Status != codes.OK || r.Idle {
			t.Errorf("without a bound: %+v", r)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if r := c.Unary(ctx, target, Call{}); r.Status != codes.DeadlineExceeded || r.Idle {
			t.Errorf("with the caller's deadline: %+v", r)
		}
	})
}

// The one attempt that an open breaker lets through keeps the others waiting, and has no deadline: its idleness bounds it.
func TestASilentProbeIsBounded(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: retry, Breaker: Breaker{Failures: 1, Open: 5 * time.Second}, AttemptIdle: time.Minute}
	silent := answer{status: codes.OK, after: 100 * time.Hour}
	bubble(t, p, script(unavailable, silent, ok), func(t *testing.T, c *Caller, f *fake) {
		var calls sync.WaitGroup
		calls.Go(func() { c.Unary(t.Context(), target, Call{}) }) // opens the breaker, and is its probe
		synctest.Wait()
		if r := c.Unary(t.Context(), target, Call{}); r.Status != codes.OK {
			t.Errorf("%+v", r)
		}
		if waited := time.Since(f.begun); waited > 2*time.Minute {
			t.Errorf("it waited %v for a silent probe", waited)
		}
		calls.Wait()
	})
}

// An attempt of a call with a deadline has no context of its own.
func TestAttemptsAreCheap(t *testing.T) {
	client := New(Options{})
	defer func() { _ = client.Close() }()
	c := NewCaller(client, Policy{Retry: retry, AttemptTimeout: time.Minute})
	c.once = func(context.Context, Target, Call) (Result, bool) { return Result{}, true }
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if n := testing.AllocsPerRun(100, func() { c.Unary(ctx, target, Call{}) }); n > 2 { // what it knows of the breaker, and what makes it
		t.Errorf("%v allocations", n)
	}
}
