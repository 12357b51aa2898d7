package consumergroup_test

import (
	"errors"
	"testing"
	"time"

	"kafkagrpc/internal/consumergroup"
)

func watched() consumergroup.Options {
	return consumergroup.Options{SessionTimeout: 10 * time.Second, EndWhenFrozen: true}
}

// What was on its way to the handler is not delivered after a freeze, and the group ends.
func TestAfterAFreezeNothingIsDelivered(t *testing.T) {
	t.Parallel()
	for name, frozen := range map[string]time.Duration{"longer": 5100 * time.Millisecond, "much longer": time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(watched()).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0)
				c := r.next()
				h := c.Hold()
				c.mark()
				if r.Stalled() {
					t.Error("stalled before the freeze")
				}
				r.Freeze(frozen)
				if !r.Stalled() {
					t.Error("not stalled after the freeze")
				}
				h.Inject("", "result")
				s.claims[requests].produce(1)
				<-s.released
				<-r.done
				if !errors.Is(r.err, consumergroup.ErrStoodStill) {
					t.Errorf("Consume() = %v", r.err)
				}
				r.quiet(t)
				wantCommitted(t, s, 0)
				if c.Context().Err() == nil {
					t.Error("the work for a lost partition goes on")
				}
				if !r.Stalled() {
					t.Error("no longer stalled: what is still under way could be written")
				}
			})
		})
	}
}

func TestShortPauseIsNoFreeze(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(watched()).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		h := c.Hold()
		c.mark()
		r.Freeze(4 * time.Second)
		h.Inject("", "result")
		s.claims[requests].produce(1)
		for _, c := range r.take(2) {
			c.mark()
		}
		if r.Stalled() {
			t.Error("stalled")
		}
		wantCommitted(t, s, 2)
	})
}

// A stop after a freeze ends without an error, and without a delivery.
func TestStopAfterAFreeze(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(watched()).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		h := c.Hold()
		c.mark()
		r.Freeze(time.Minute)
		h.Inject("", "result")
		r.cancel(nil)
		<-s.released
		<-r.done
		if r.err != nil {
			t.Errorf("Consume() = %v", r.err)
		}
		r.quiet(t)
		wantCommitted(t, s, 0)
	})
}

func TestFreezeIsNotWatchedUnlessWanted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		<-r.broker.assign(requests).started
		<-time.After(time.Hour)
		if r.Stalled() {
			t.Error("stalled")
		}
	})
}
