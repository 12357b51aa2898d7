package consumergroup_test

import (
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
)

func watched() consumergroup.Options {
	return consumergroup.Options{SessionTimeout: 10 * time.Second, HeartbeatInterval: time.Second}
}

// What was on its way to the handler waits until the group has had time to say who owns the partition.
func TestAfterAFreezeNothingIsDelivered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		frozen time.Duration
		stands bool // for longer than is allowed
	}{
		{"shorter than half the session time-out", 4900 * time.Millisecond, false},
		{"longer", 5100 * time.Millisecond, true},
		{"much longer", time.Hour, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
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
				thawed := time.Now()
				r.Freeze(test.frozen)
				h.Inject("", "result")
				s.claims[requests].produce(1)
				if got := r.Stalled(); got != test.stands {
					t.Errorf("Stalled() = %t", got)
				}
				if test.stands {
					r.quiet(t)
				}
				for _, c := range r.take(2) {
					c.mark()
				}
				// The next note is half a second away at most.
				waited := time.Since(thawed)
				if test.stands && (waited < 2*time.Second || waited > 2600*time.Millisecond) || !test.stands && waited != 0 {
					t.Errorf("delivered %s after the freeze", waited)
				}
				if r.Stalled() {
					t.Error("still stalled")
				}
				wantCommitted(t, s, 2)
			})
		})
	}
}

// The heartbeat learns that the partitions are gone: nothing more is done for them.
func TestLostAfterAFreeze(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(watched()).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		h := c.Hold()
		c.mark()
		r.Freeze(time.Minute)
		h.Inject("", "result")
		s.claims[requests].produce(1)
		r.quiet(t)
		s.end(sarama.ErrUnknownMemberId)
		<-s.released
		r.quiet(t)
		wantCommitted(t, s, 0)
		if c.Context().Err() == nil {
			t.Error("the work for a lost partition goes on")
		}

		again := r.broker.assign(requests)
		again.claims[requests].produce(0)
		r.next().mark()
		wantCommitted(t, again, 1)
	})
}

// A stop is a stop, also while nothing is delivered.
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
		r.next().mark()
		<-s.released
		wantCommitted(t, s, 1)
		<-r.done
		if r.Stalled() {
			t.Error("stalled although nothing runs")
		}
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
