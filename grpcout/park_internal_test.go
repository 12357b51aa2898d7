package grpcout

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

func TestParkAtThePauseThatOutlastsIt(t *testing.T) {
	t.Parallel()
	bubble(t, Policy{Retry: retry}, script(answer{status: codes.Unavailable, after: time.Second}), func(t *testing.T, c *Caller, f *fake) {
		const after = 20 * time.Second
		r := c.Unary(t.Context(), target, Call{Park: &Park{After: after}})
		p := r.Parked
		if p == nil {
			t.Fatalf("%+v", r)
		}
		took, tries := time.Since(f.begun), f.seen()
		if took > after+time.Second || took+p.Pause < after || p.Attempts != len(tries) || p.Status != codes.Unavailable || p.Message != r.Message {
			t.Errorf("after %v and %d attempts: %+v", took, len(tries), p)
		}
		if p.Elapsed != took+p.Pause || p.Limit <= p.Pause || p.Limit > retry.Max {
			t.Errorf("after %v: %+v", took, p)
		}

		// It goes on from there: the attempt in its place, the pauses, and the end at MaxElapsed.
		begun := time.Now()
		r = c.Unary(t.Context(), target, Call{Park: &Park{After: after, Before: *p}})
		if first := f.seen()[len(tries)]; first.at != took+p.Pause || r.Parked == nil || r.Parked.Attempts <= p.Attempts || r.Parked.Elapsed != p.Elapsed-p.Pause+time.Since(begun)+r.Parked.Pause {
			t.Errorf("the next attempt came at %v: %+v", first.at, r.Parked)
		}
		almost := *r.Parked
		almost.Elapsed, almost.Pause = retry.MaxElapsed, 0
		if r = c.Unary(t.Context(), target, Call{Park: &Park{After: after, Before: almost}}); !r.Exhausted || r.Parked != nil || r.Attempts != almost.Attempts+1 {
			t.Errorf("%+v", r)
		}
	})
}

func TestParkAtAnOpenBreaker(t *testing.T) {
	t.Parallel()
	const after = 12 * time.Second
	policy := Policy{Retry: retry, Breaker: Breaker{Failures: 1, Open: 5 * time.Second}}
	bubble(t, policy, script(unavailable), func(t *testing.T, c *Caller, f *fake) {
		waits := func(p *Park) (r Result, took time.Duration) {
			begun := time.Now()
			r = c.Unary(t.Context(), target, Call{Park: p})
			return r, time.Since(begun)
		}
		// The first one opens it, and probes.
		if r, took := waits(&Park{After: after}); r.Parked == nil || took != after || r.Parked.Attempts != 3 || r.Parked.Elapsed != 0 || r.Parked.Pause != 0 {
			t.Errorf("after %v: %+v", took, r.Parked)
		}
		// It has been open for long: nobody waits for it, but for who probes it.
		if r, took := waits(&Park{After: after}); r.Parked == nil || took != 0 || r.Parked.Attempts != 0 || r.Status != codes.Unavailable {
			t.Errorf("after %v: %+v", took, r)
		}
		before := Progress{Attempts: 7, Elapsed: time.Minute, Limit: time.Second, Status: codes.Unavailable, Message: "before"}
		if r, took := waits(&Park{Held: true, Before: before}); r.Parked == nil || took != 3*time.Second || r.Parked.Attempts != 8 || r.Parked.Elapsed != time.Minute {
			t.Errorf("after %v: %+v", took, r.Parked)
		}
		synctest.Wait()
		if got := len(f.seen()); got != 4 {
			t.Errorf("%d attempts", got)
		}
	})
}
