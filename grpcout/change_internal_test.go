package grpcout

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

// A call whose attempts fail is made where its service has moved, without waiting for the old place.
func TestMovedService(t *testing.T) {
	t.Parallel()
	old, now := Target{Address: "old:1"}, Target{Address: "new:1"}
	for name, p := range map[string]Policy{
		"between attempts": {Retry: Retry{Codes: retry.Codes, Initial: time.Second, Max: time.Second, MaxElapsed: time.Hour}},
		"at the breaker":   {Retry: Retry{Codes: retry.Codes, Initial: time.Second, Max: time.Second, MaxElapsed: time.Hour}, Breaker: Breaker{Failures: 1, Open: 30 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, p, nil, func(t *testing.T, c *Caller, f *fake) {
				c.once = func(_ context.Context, t Target, _ Call) (Result, bool) {
					if t == old {
						return Result{Status: codes.Unavailable}, true
					}
					return Result{}, true
				}
				var moved atomic.Bool
				results := make(chan Result, 3)
				for range cap(results) {
					go func() {
						results <- c.Unary(t.Context(), old, Call{Moved: func() Target {
							if moved.Load() {
								return now
							}
							return old
						}})
					}()
				}
				time.Sleep(10 * time.Second) // of virtual time
				moved.Store(true)
				c.Keep(now)
				allOK(t, results)
				if took := time.Since(f.begun); took > 12*time.Second {
					t.Errorf("the calls took %v", took)
				}
				if open := c.Open(); len(open) != 1 || open[now] {
					t.Errorf("the breakers are %v", open)
				}
			})
		})
	}
}

// Without a place that it has moved to, a call stays with its service when the breaker is forgotten.
func TestBreakerIsForgotten(t *testing.T) {
	t.Parallel()
	p := Policy{Retry: Retry{Codes: retry.Codes, Initial: time.Nanosecond, Max: time.Nanosecond, MaxElapsed: time.Hour}, Breaker: Breaker{Failures: 1, Open: 30 * time.Minute}}
	bubble(t, p, script(unavailable, ok), func(t *testing.T, c *Caller, f *fake) {
		result := make(chan Result, 1)
		go func() { result <- c.Unary(t.Context(), target, Call{}) }()
		synctest.Wait()
		c.Keep()
		if r := <-result; r.Status != codes.OK || r.Attempts != 2 || time.Since(f.begun) > time.Second {
			t.Errorf("after %v: %+v", time.Since(f.begun), r)
		}
	})
}

// Another policy counts for calls that are under way.
func TestSetPolicy(t *testing.T) {
	t.Parallel()
	slowly := Retry{Codes: retry.Codes, Initial: time.Second, Max: time.Second, MaxElapsed: time.Hour}
	bubble(t, Policy{Retry: slowly}, script(unavailable), func(t *testing.T, c *Caller, f *fake) {
		result := make(chan Result, 1)
		go func() { result <- c.Unary(t.Context(), target, Call{}) }()
		time.Sleep(10 * time.Second)
		c.SetPolicy(Policy{})
		if r := <-result; r.Status != codes.Unavailable || time.Since(f.begun) > 12*time.Second {
			t.Errorf("after %v: %+v", time.Since(f.begun), r)
		}
		c.SetPolicy(Policy{Retry: slowly, Breaker: Breaker{Failures: 1, Open: time.Minute}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.Unary(ctx, target, Call{})
		if !c.Open()[target] {
			t.Error("the breaker does not know of its policy")
		}
	})
}

func TestPaceChanges(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before, after PaceLimits
		calls         int // each takes a second
		took          time.Duration
		top           int
	}{
		"more places":           {PaceLimits{MaxInFlight: 1}, PaceLimits{MaxInFlight: 9}, 9, 1500 * time.Millisecond, 9},
		"any number of places":  {PaceLimits{MaxInFlight: 1}, PaceLimits{Calls: 1000, Per: time.Second, Burst: 1000}, 10, 1500 * time.Millisecond, 10},
		"fewer places":          {PaceLimits{MaxInFlight: 4}, PaceLimits{MaxInFlight: 1}, 6, 3 * time.Second, 4},
		"a higher rate":         {PaceLimits{Calls: 1, Per: time.Hour, Burst: 1}, PaceLimits{Calls: 1, Per: time.Second, Burst: 1}, 3, 3500 * time.Millisecond, 3},
		"any rate":              {PaceLimits{Calls: 1, Per: time.Hour, Burst: 1}, PaceLimits{MaxInFlight: 10}, 5, 1500 * time.Millisecond, 5},
		"the same once more":    {PaceLimits{Calls: 1, Per: time.Second, Burst: 1}, PaceLimits{Calls: 1, Per: time.Second, Burst: 1}, 4, 4 * time.Second, 2},
		"a rate, and no places": {PaceLimits{MaxInFlight: 1}, PaceLimits{Calls: 1, Per: time.Second, Burst: 1}, 3, 3500 * time.Millisecond, 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, Policy{}, script(slow(time.Second)), func(t *testing.T, c *Caller, f *fake) {
				pace := NewPace("client", tt.before)
				results := make(chan Result, tt.calls)
				for i := range tt.calls {
					go func() { results <- c.Unary(t.Context(), target, Call{Method: fmt.Sprint(i), Pace: pace}) }()
				}
				time.Sleep(500 * time.Millisecond)
				pace.Set(tt.after)
				allOK(t, results)
				if took := time.Since(f.begun).Round(100 * time.Millisecond); took > tt.took || f.top > tt.top {
					t.Errorf("it took %v, with %d at once", took, f.top)
				}
			})
		})
	}
}
