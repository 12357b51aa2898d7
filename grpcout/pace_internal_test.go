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

// inTurn makes calls one behind the other, as long as they are from 0, and answers where their results come.
func inTurn(ctx context.Context, c *Caller, pace *Pace, from, to int) <-chan Result {
	results := make(chan Result, to-from)
	for i := from; i < to; i++ {
		go func() { results <- c.Unary(ctx, target, Call{Method: fmt.Sprint(i), Pace: pace}) }()
		synctest.Wait()
	}
	return results
}

func allOK(t *testing.T, results <-chan Result) {
	t.Helper()
	for range cap(results) {
		if r := <-results; r.Status != codes.OK {
			t.Errorf("%+v", r)
		}
	}
}

func slow(after time.Duration) answer { return answer{status: codes.OK, after: after} }

func TestNoPaceWithoutLimits(t *testing.T) {
	if p := NewPace("client", PaceLimits{Per: time.Second, Burst: 1}); p != nil {
		t.Errorf("%+v", p)
	}
}

// Calls of several callers, to several targets, share one pace.
func TestMaxInFlightOverCallersAndTargets(t *testing.T) {
	t.Parallel()
	bubble(t, Policy{Retry: retry}, script(slow(time.Second)), func(t *testing.T, c *Caller, f *fake) {
		other := NewCaller(c.client, Policy{})
		other.once = f.once
		pace := NewPace("client", PaceLimits{MaxInFlight: 3})
		results := make(chan Result, 40)
		for i := range cap(results) / 4 {
			for _, caller := range []*Caller{c, other} {
				for _, to := range []Target{target, {Address: "other:1"}} {
					go func() { results <- caller.Unary(t.Context(), to, Call{Method: fmt.Sprint(i), Pace: pace}) }()
				}
			}
		}
		allOK(t, results)
		if f.top != 3 {
			t.Errorf("%d at once", f.top)
		}
		if took := time.Since(f.begun); took != 14*time.Second {
			t.Errorf("40 calls of a second, 3 at once, took %v", took)
		}
	})
}

func TestRateInOrder(t *testing.T) {
	t.Parallel()
	for _, limits := range []PaceLimits{
		{Calls: 10, Per: time.Second, Burst: 5},
		{Calls: 10, Per: time.Second, Burst: 5, MaxInFlight: 2}, // what waits for the rate holds a place, and keeps nobody from his turn
		{Calls: 600, Per: time.Minute, Burst: 5},
	} {
		bubble(t, Policy{Retry: retry}, script(ok), func(t *testing.T, c *Caller, f *fake) {
			allOK(t, inTurn(t.Context(), c, NewPace("client", limits), 0, 25))
			for n, a := range f.seen() {
				want := max(0, time.Duration(n-4)*100*time.Millisecond)
				if a.name != fmt.Sprint(n) || (a.at-want).Abs() > time.Microsecond {
					t.Errorf("%+v: attempt %d is of call %s, after %v; want %v", limits, n, a.name, a.at, want)
				}
			}
		})
	}
}

func TestRetriesCountForTheRate(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: retry}
	p.Retry.MaxElapsed = 10 * time.Second
	bubble(t, p, script(unavailable, unavailable, unavailable, ok), func(t *testing.T, c *Caller, f *fake) {
		r := c.Unary(t.Context(), target, Call{Pace: NewPace("client", PaceLimits{Calls: 1, Per: time.Minute, Burst: 1})})
		// Waiting is no elapsed time: else the second retry would be too late.
		if r.Status != codes.OK || r.Attempts != 4 || time.Since(f.begun).Round(time.Second) != 3*time.Minute {
			t.Errorf("after %v: %+v", time.Since(f.begun), r)
		}
	})
}

func TestRestingCallHoldsNoPlace(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: Retry{Codes: retry.Codes, Initial: time.Hour, Max: time.Hour, MaxElapsed: 100 * time.Hour}}
	bubble(t, p, script(unavailable, ok), func(t *testing.T, c *Caller, f *fake) {
		pace := NewPace("client", PaceLimits{MaxInFlight: 1})
		ctx, cancel := context.WithCancel(t.Context())
		resting := inTurn(ctx, c, pace, 0, 1)
		allOK(t, inTurn(t.Context(), c, pace, 1, 20))
		if time.Since(f.begun) != 0 || f.top != 1 {
			t.Errorf("after %v, %d at once", time.Since(f.begun), f.top)
		}
		cancel()
		<-resting
	})
}

func TestDeadlineBeforeTheTurn(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits PaceLimits
		does   []answer
		calls  int // before the one that is looked at, which have no deadline
		after  time.Duration
		want   Result
	}{
		"no place": {
			PaceLimits{MaxInFlight: 1}, []answer{slow(time.Hour)}, 1, time.Minute,
			Result{Status: codes.DeadlineExceeded, Message: "service:1: no turn came before the deadline at the pace of `client` (max-in-flight, rate)"},
		},
		"behind one that waits for the rate": {
			PaceLimits{Calls: 1, Per: time.Hour, Burst: 1}, []answer{ok}, 2, time.Minute,
			Result{Status: codes.DeadlineExceeded, Message: "service:1: no turn came before the deadline at the pace of `client` (max-in-flight, rate)"},
		},
		"a turn that would come too late is not waited for": {
			PaceLimits{Calls: 1, Per: time.Hour, Burst: 1}, []answer{ok}, 1, 0,
			Result{Status: codes.DeadlineExceeded, Message: "service:1: no turn came before the deadline at the pace of `client` (max-in-flight, rate)"},
		},
		"after an attempt": {
			PaceLimits{Calls: 1, Per: time.Hour, Burst: 1}, []answer{unavailable}, 0, 0,
			Result{
				Status: codes.Unavailable, Attempts: 1, Exhausted: true, Address: "service:1",
				Message: "service:1: no turn came before the deadline at the pace of `client` (max-in-flight, rate); the last attempt: answer 0",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Policy{Retry: retry}
			p.Retry.Initial = time.Nanosecond
			bubble(t, p, script(test.does...), func(t *testing.T, c *Caller, f *fake) {
				pace := NewPace("client", test.limits)
				before := inTurn(t.Context(), c, pace, 0, test.calls)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				r := c.Unary(ctx, target, Call{Pace: pace})
				if fmt.Sprint(r) != fmt.Sprint(test.want) || time.Since(f.begun).Truncate(time.Microsecond) != test.after {
					t.Errorf("after %v: %+v", time.Since(f.begun), r)
				}
				allOK(t, before)
			})
		})
	}
}

// Those who go, from the head and from the middle, leave neither a hole in the rate nor a place that is taken.
func TestCanceledCallsLeaveTheQueue(t *testing.T) {
	t.Parallel()
	for _, limits := range []PaceLimits{{MaxInFlight: 1}, {Calls: 1, Per: time.Minute, Burst: 1}, {MaxInFlight: 2, Calls: 1, Per: time.Minute, Burst: 1}} {
		bubble(t, Policy{Retry: retry}, script(slow(time.Minute)), func(t *testing.T, c *Caller, f *fake) {
			pace := NewPace("client", limits)
			first := inTurn(t.Context(), c, pace, 0, 1)
			ctx, cancel := context.WithCancel(t.Context())
			gone := inTurn(ctx, c, pace, 1, 4)
			stays := inTurn(t.Context(), c, pace, 4, 5)
			goneToo := inTurn(ctx, c, pace, 5, 10)
			last := inTurn(t.Context(), c, pace, 10, 11)
			time.Sleep(time.Second)
			cancel()
			for _, results := range []<-chan Result{gone, goneToo} {
				for range cap(results) {
					if r := <-results; r.Status != codes.Canceled || r.Attempts != 0 {
						t.Errorf("%+v", r)
					}
				}
			}
			if since := time.Since(f.begun); since != time.Second {
				t.Errorf("canceled calls came back after %v", since)
			}
			allOK(t, first)
			allOK(t, stays)
			allOK(t, last)
			var at []time.Duration
			for _, a := range f.seen() {
				at = append(at, a.at.Round(time.Millisecond))
			}
			if !slices.Equal(at, []time.Duration{0, time.Minute, 2 * time.Minute}) {
				t.Errorf("%+v: attempts at %v", limits, at)
			}
		})
	}
}

func TestCloseEndsThoseWhoWaitForATurn(t *testing.T) {
	t.Parallel()
	for _, limits := range []PaceLimits{{MaxInFlight: 1}, {Calls: 1, Per: time.Hour, Burst: 1}} {
		synctest.Test(t, func(t *testing.T) {
			client := New(Options{})
			c := NewCaller(client, Policy{Retry: retry})
			f := &fake{answer: script(slow(time.Minute)), begun: time.Now()}
			c.once = f.once
			pace := NewPace("client", limits)
			first := inTurn(t.Context(), c, pace, 0, 1)
			results := inTurn(t.Context(), c, pace, 1, 50)
			go func() { _ = client.Close() }()
			for range cap(results) {
				if r := <-results; r.Status != codes.Unavailable || r.Attempts != 0 || !strings.Contains(r.Message, "the client is closed") {
					t.Errorf("%+v", r)
				}
			}
			if time.Since(f.begun) != 0 {
				t.Errorf("closing took %v", time.Since(f.begun))
			}
			allOK(t, first)
		})
	}
}

// What waits for its turn when the breaker opens waits for the breaker then, and the probe takes its turn before those.
func TestOpenBreakerTakesNoTurns(t *testing.T) {
	t.Parallel()
	for _, limits := range []PaceLimits{{MaxInFlight: 2}, {Calls: 2, Per: time.Second, Burst: 1}, {MaxInFlight: 2, Calls: 2, Per: time.Second, Burst: 1}} {
		p := Policy{Retry: retry, Breaker: Breaker{Failures: 3, Open: 10 * time.Second}}
		const outage = time.Minute
		bubble(t, p, downFor(outage), func(t *testing.T, c *Caller, f *fake) {
			allOK(t, inTurn(t.Context(), c, NewPace("client", limits), 0, 30))
			opening := 3 // attempts that open it
			if limits.Calls == 0 {
				opening++ // one was under way beside them
			}
			for n, a := range f.seen() {
				if before := f.seen()[max(n-1, 0)]; n >= opening && a.at < outage && a.at-before.at < 9*time.Second {
					t.Errorf("%+v: attempt %d at %v, the one before at %v", limits, n, a.at, before.at)
				}
			}
			if f.top > 2 || len(f.attempts) > 30+5+int(outage/(10*time.Second)) {
				t.Errorf("%+v: %d attempts, %d at once", limits, len(f.attempts), f.top)
			}
			if took := time.Since(f.begun); took > outage+30*time.Second {
				t.Errorf("%+v: the last answer came after %v", limits, took)
			}
		})
	}
}

// waits are what an observer is told of turns.
type waits struct {
	unobserved
	mu         sync.Mutex
	now, most  int
	paced      []time.Duration
	paceOfWait string
}

func (w *waits) Waits(pace string) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paceOfWait = pace
	w.now++
	w.most = max(w.most, w.now)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.now--
	}
}

func (w *waits) Paced(_ context.Context, _ string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paced = append(w.paced, d)
}

func TestWaitsAreObserved(t *testing.T) {
	t.Parallel()
	w := &waits{}
	bubble(t, Policy{Observer: w}, script(slow(time.Second)), func(t *testing.T, c *Caller, f *fake) {
		pace := NewPace("client", PaceLimits{MaxInFlight: 1})
		results := inTurn(t.Context(), c, pace, 0, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		c.Unary(ctx, target, Call{Pace: pace})
		c.Unary(t.Context(), target, Call{}) // without a pace
		allOK(t, results)
	})
	if w.now != 0 || w.most != 3 || w.paceOfWait != "client" || !slices.Equal(w.paced, []time.Duration{0, time.Millisecond, time.Second, 2 * time.Second}) {
		t.Errorf("%+v", w)
	}
}

// A turn that is there costs nothing.
func TestTurnsAreCheap(t *testing.T) {
	client := New(Options{})
	defer func() { _ = client.Close() }()
	c := NewCaller(client, Policy{Retry: retry})
	c.once = func(context.Context, Target, Call) (Result, bool) { return Result{}, true }
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	call := Call{Pace: NewPace("client", PaceLimits{MaxInFlight: 1, Calls: 1_000_000, Per: time.Nanosecond, Burst: 1_000_000})}
	if n := testing.AllocsPerRun(100, func() { c.Unary(ctx, target, call) }); n > 2 { // as many as without
		t.Errorf("%v allocations", n)
	}
}

// A probe may give up while it waits for its turn: another call probes then.
func TestCanceledProbeThatWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: retry, Breaker: Breaker{Failures: 1, Open: time.Second}}
	bubble(t, p, func(_ int, name string) answer {
		if name == "fails" {
			return unavailable
		}
		return slow(time.Minute)
	}, func(t *testing.T, c *Caller, f *fake) {
		pace := NewPace("client", PaceLimits{MaxInFlight: 1})
		ctx, cancel := context.WithCancel(t.Context())
		fails := make(chan Result, 2)
		go func() { fails <- c.Unary(ctx, target, Call{Method: "fails"}) }() // opens the breaker, without a pace
		synctest.Wait()
		cancel()
		elsewhere := make(chan Result, 1)
		go func() { elsewhere <- c.Unary(t.Context(), Target{Address: "other:1"}, Call{Pace: pace}) }() // has the place for a minute
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() { fails <- c.Unary(ctx, target, Call{Method: "probe", Pace: pace}) }()
		synctest.Wait()
		r := c.Unary(t.Context(), target, Call{Method: "next", Pace: pace})
		if took := time.Since(f.begun); r.Status != codes.OK || took != 2*time.Minute {
			t.Errorf("after %v: %+v", took, r)
		}
		<-fails
		if r := <-fails; r.Status != codes.DeadlineExceeded || r.Attempts != 0 {
			t.Errorf("the probe: %+v", r)
		}
		allOK(t, elsewhere)
	})
}
