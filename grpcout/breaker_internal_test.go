package grpcout

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

// many makes calls at once, and answers where their results come.
func many(ctx context.Context, c *Caller, n int) <-chan Result {
	results := make(chan Result, n)
	for i := range n {
		go func() { results <- c.Unary(ctx, target, Call{Method: fmt.Sprint("call ", i)}) }()
	}
	return results
}

// downFor is a service that is unavailable for a time from its first attempt on, and answers after a millisecond.
func downFor(d time.Duration) func(int, string) answer {
	up := sync.OnceValue(func() time.Time { return time.Now().Add(d) })
	return func(int, string) answer {
		if time.Now().Before(up()) {
			return answer{status: codes.Unavailable, after: time.Millisecond}
		}
		return answer{status: codes.OK, after: time.Millisecond}
	}
}

func TestLongOutageLosesNothing(t *testing.T) {
	t.Parallel()
	// More make the race detector crash within synctest (golang/go#78156).
	for _, n := range []int{1, 100} {
		t.Run(fmt.Sprint(n, " calls"), func(t *testing.T) {
			t.Parallel()
			p := Policy{Retry: retry, Breaker: Breaker{Failures: 20, Open: 5 * time.Second}, AttemptTimeout: 30 * time.Second}
			var changes []bool
			p.BreakerChanged = func(_ Target, open bool, _ Result) { changes = append(changes, open) }
			const outage = 20 * time.Minute // longer than max-elapsed
			bubble(t, p, downFor(outage), func(t *testing.T, c *Caller, f *fake) {
				results := many(t.Context(), c, n)
				for range n {
					if r := <-results; r.Status != codes.OK {
						t.Fatalf("%+v", r)
					}
				}
				if late := time.Since(f.begun) - outage; late > 10*time.Second {
					t.Errorf("the last answer came %v after the service was back", late)
				}
				// The first attempt of each, and those before the breaker opens; one probe each 5s; and all again.
				if most := 2*n + 20 + int(outage/(5*time.Second)); len(f.attempts) > most {
					t.Errorf("%d attempts, want at most %d", len(f.attempts), most)
				}
				if got := fmt.Sprint(changes); got != "[true false]" {
					t.Errorf("the breaker's changes are %s", got)
				}
			})
		})
	}
}

func TestBreakerOpensOnlyAfterFailuresInARow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answers []answer
		calls   int
		open    bool
	}{
		{"too few", []answer{unavailable, unavailable, ok}, 3, false},
		{"enough", []answer{unavailable, unavailable, unavailable}, 3, true},
		{"a success between", []answer{unavailable, unavailable, ok, unavailable, unavailable}, 5, false},
		{"an error of the service between", []answer{unavailable, unavailable, {status: codes.NotFound}, unavailable, unavailable}, 5, false},
		{"a deadline between says nothing", []answer{unavailable, unavailable, {status: codes.DeadlineExceeded, silent: true}, unavailable}, 4, true},
		{"deadlines alone", []answer{{status: codes.DeadlineExceeded, silent: true}}, 10, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := Policy{Retry: Retry{Codes: retry.Codes}, Breaker: Breaker{Failures: 3, Open: time.Minute}}
			bubble(t, p, script(test.answers...), func(t *testing.T, c *Caller, f *fake) {
				for range test.calls {
					c.Unary(t.Context(), target, Call{})
				}
				before := time.Now()
				c.Unary(t.Context(), target, Call{})
				if held := time.Since(before); (held == time.Minute) != test.open {
					t.Errorf("the next call was held for %v, open should be %v", held, test.open)
				}
			})
		})
	}
}

func TestBreakersOfTargetsAreApart(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: Retry{Codes: retry.Codes}, Breaker: Breaker{Failures: 1, Open: time.Minute}}
	bubble(t, p, script(unavailable, ok), func(t *testing.T, c *Caller, f *fake) {
		c.Unary(t.Context(), target, Call{})
		if r := c.Unary(t.Context(), Target{Scheme: "http", Address: "other:1"}, Call{}); r.Status != codes.OK || time.Since(f.begun) != 0 {
			t.Errorf("%+v after %v", r, time.Since(f.begun))
		}
	})
}

func TestOneProbeAtATime(t *testing.T) {
	t.Parallel()
	// A slow service: the probes take longer than the breaker is open.
	p := Policy{Retry: retry, Breaker: Breaker{Failures: 1, Open: time.Second}}
	opener := script(unavailable, answer{status: codes.Unavailable, after: 3 * time.Second}, answer{status: codes.Unavailable, after: 3 * time.Second}, answer{status: codes.OK, after: 3 * time.Second})
	bubble(t, p, opener, func(t *testing.T, c *Caller, f *fake) {
		results := make(chan Result, 51)
		for i := range cap(results) {
			go func() { results <- c.Unary(t.Context(), target, Call{Method: fmt.Sprint("call ", i)}) }()
			synctest.Wait() // in the queue
		}
		// Probes at 1s, 5s (1 + 3 + 1) and 9s; the last one works at 12s.
		time.Sleep(11 * time.Second)
		if got := f.seen(); len(got) != 4 || got[1].at != time.Second || got[2].at != 5*time.Second || got[3].at != 9*time.Second || f.top != 1 {
			t.Fatalf("attempts %+v, up to %d at once", got, f.top)
		}
		// Those who wait take turns.
		if got := f.seen(); got[1].name != "call 0" || got[2].name != "call 1" || got[3].name != "call 2" {
			t.Errorf("the probes are not in the order of the queue: %+v", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := len(f.seen()); got != 4+50 {
			t.Errorf("%d attempts after the probe that worked, want all others", got)
		}
		for range cap(results) {
			if r := <-results; r.Status != codes.OK {
				t.Errorf("%+v", r)
			}
		}
	})
}

func TestHeldUntilTheDeadline(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: retry, Breaker: Breaker{Failures: 1, Open: time.Hour}}
	bubble(t, p, script(unavailable), func(t *testing.T, c *Caller, f *fake) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := c.Unary(ctx, target, Call{})
		if r.Status != codes.Unavailable || r.Attempts != 1 || !r.Exhausted || time.Since(f.begun) != time.Minute ||
			r.Message != "the breaker of service:1 was open until the deadline; the last attempt: answer 0" {
			t.Errorf("after %v: %+v", time.Since(f.begun), r)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r = c.Unary(ctx, target, Call{})
		if r.Status != codes.DeadlineExceeded || r.Attempts != 0 || r.Exhausted || !strings.Contains(r.Message, "the breaker of service:1 was open") {
			t.Errorf("without an attempt: %+v", r)
		}
		r = c.Unary(ctx, target, Call{})
		if r.Status != codes.DeadlineExceeded || r.Attempts != 0 || !strings.Contains(r.Message, "before the call was made") {
			t.Errorf("past the deadline: %+v", r)
		}
		if len(f.attempts) != 1 {
			t.Errorf("%d attempts", len(f.attempts))
		}
	})
}

// Whoever watches the clock, or makes the probe, may go away at any time: another one takes over.
func TestCanceledCallersDoNotWedgeTheBreaker(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		cancel time.Duration // when the first of those who wait gives up
		goOn   time.Duration // when the others are let go, by a probe that takes 1ms
	}{
		{"while it watches the clock", 500 * time.Millisecond, time.Second},
		{"when the breaker would let it go", time.Second, time.Second},
		{"during its probe", 1500 * time.Millisecond, 1500 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := Policy{Retry: retry, Breaker: Breaker{Failures: 1, Open: time.Second}}
			bubble(t, p, func(n int, name string) answer {
				switch {
				case n == 0:
					return unavailable
				case name == "first":
					return answer{status: codes.OK, after: time.Hour}
				}
				return answer{status: codes.OK, after: time.Millisecond}
			}, func(t *testing.T, c *Caller, f *fake) {
				// It opens the breaker, and goes.
				ctx, gone := context.WithCancel(t.Context())
				many(ctx, c, 1)
				synctest.Wait()
				gone()
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), test.cancel)
				defer cancel()
				first := make(chan Result, 1)
				go func() { first <- c.Unary(ctx, target, Call{Method: "first"}) }()
				synctest.Wait()
				ctx, quit := context.WithCancel(t.Context())
				between := many(ctx, c, 5) // some that give up early, from the middle of the queue
				synctest.Wait()
				rest := many(t.Context(), c, 5)
				synctest.Wait()
				quit()
				for range 5 {
					if r := <-between; r.Status != codes.Canceled {
						t.Errorf("between: %+v", r)
					}
				}
				<-first
				for range 5 {
					if r := <-rest; r.Status != codes.OK {
						t.Errorf("%+v", r)
					}
				}
				if got, most := time.Since(f.begun), test.goOn+2*time.Millisecond; got > most {
					t.Errorf("the others were answered after %v, want at most %v", got, most)
				}
			})
		})
	}
}

func TestClosedBreakerCountsAnew(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: Retry{Codes: retry.Codes}, Breaker: Breaker{Failures: 3, Open: time.Minute}}
	bubble(t, p, script(unavailable, unavailable, unavailable, ok, unavailable, unavailable, ok), func(t *testing.T, c *Caller, f *fake) {
		for range 7 {
			c.Unary(t.Context(), target, Call{})
		}
		if got := time.Since(f.begun); got != time.Minute {
			t.Errorf("calls were held for %v, want once for a minute", got)
		}
	})
}

// A service that only takes time to fail must not use up what its calls may take.
func TestSlowProbesDoNotCount(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: retry, Breaker: Breaker{Failures: 1, Open: time.Second}}
	p.Retry.MaxElapsed = 10 * time.Second
	slow := answer{status: codes.Unavailable, after: 8 * time.Second}
	bubble(t, p, script(slow, slow, slow, slow, slow, ok), func(t *testing.T, c *Caller, f *fake) {
		if r := c.Unary(t.Context(), target, Call{}); r.Status != codes.OK || r.Attempts != 6 {
			t.Errorf("%+v", r)
		}
	})
}

// A half-open breaker that nobody waits for lets the next caller probe at once.
func TestHalfOpenBreakerWaitsForNobody(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: Retry{Codes: retry.Codes}, Breaker: Breaker{Failures: 1, Open: time.Second}}
	silence := answer{status: codes.DeadlineExceeded, silent: true}
	bubble(t, p, script(unavailable, silence, silence, ok, ok), func(t *testing.T, c *Caller, f *fake) {
		c.Unary(t.Context(), target, Call{})
		time.Sleep(time.Minute)
		for range 4 {
			c.Unary(t.Context(), target, Call{})
		}
		if got := time.Since(f.begun); got != time.Minute {
			t.Errorf("calls were held until %v", got)
		}
	})
}

// Results of attempts that began before the breaker opened change nothing any more.
func TestLateResultsDoNotCount(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: Retry{Codes: retry.Codes}, Breaker: Breaker{Failures: 2, Open: 10 * time.Second}}
	bubble(t, p, func(_ int, name string) answer {
		switch name {
		case "late success":
			return answer{status: codes.OK, after: 5 * time.Second}
		case "late failure":
			return answer{status: codes.Unavailable, after: 15 * time.Second}
		case "works":
			return ok
		}
		return unavailable
	}, func(t *testing.T, c *Caller, f *fake) {
		begin := func(name string) { c.Unary(t.Context(), target, Call{Method: name}) }
		go begin("late success")
		go begin("late failure")
		go begin("late failure")
		synctest.Wait()
		begin("fails")
		begin("fails")
		begin("works")
		if got := time.Since(f.begun); got != 10*time.Second {
			t.Errorf("the late success closed the breaker: the next call was made after %v", got)
		}
		time.Sleep(6 * time.Second)
		begin("works")
		if got := time.Since(f.begun); got != 16*time.Second {
			t.Errorf("the late failures opened the breaker: the next call was made after %v", got)
		}
	})
}
