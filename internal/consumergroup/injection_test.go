package consumergroup_test

import (
	"fmt"
	"sync"
	"testing"

	"kafkagrpc/internal/consumergroup"
)

func TestInject(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1)
		all := r.take(2)
		h := all[0].Hold()
		all[0].mark()
		all[1].mark()
		if !h.Inject("key", "result") {
			t.Fatal("Inject() = false")
		}
		c := r.next()
		if c.Record != nil || c.Payload != "result" || c.Key() != "key" {
			t.Errorf("injected %v, payload %v, key %q", c.Record, c.Payload, c.Key())
		}
		if c.message.Topic != "requests" || c.message.Partition != 0 {
			t.Errorf("injected into %s/%d", c.message.Topic, c.message.Partition)
		}
		wantCommitted(t, s, 0)
		c.mark()
		wantCommitted(t, s, 2)
	})
}

// The work may be done, and even acknowledged, before the handler has marked the record itself.
func TestInjectBeforeMark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		c.Hold().Inject("k", 1)
		r.next().mark()
		wantCommitted(t, s, 0)
		c.mark()
		wantCommitted(t, s, 1)
	})
}

func TestHoldIsUsedOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		act        func(h *consumergroup.Hold) (accepted bool)
		accepted   bool
		deliveries int
	}{
		{"inject", func(h *consumergroup.Hold) bool { return h.Inject("k", 0) }, true, 1},
		{"inject after release", func(h *consumergroup.Hold) bool { h.Release(); return h.Inject("k", 0) }, false, 0},
		{"inject after inject", func(h *consumergroup.Hold) bool { h.Inject("k", 0); return h.Inject("k", 1) }, false, 1},
		{"release after inject", func(h *consumergroup.Hold) bool {
			ok := h.Inject("k", 0)
			h.Release()
			return ok
		}, true, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{}).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0)
				c := r.next()
				h := c.Hold()
				c.mark()
				if got := test.act(h); got != test.accepted {
					t.Errorf("Inject() = %t, want %t", got, test.accepted)
				}
				injected := r.take(test.deliveries)
				r.quiet(t)
				if test.deliveries > 0 {
					wantCommitted(t, s, 0) // by the release, for instance
				}
				for _, c := range injected {
					c.mark()
				}
				wantCommitted(t, s, 1)
			})
		})
	}
}

func TestInjectionsKeepTheirOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 50
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		for i := range n {
			c.Hold().Inject("k", i)
		}
		c.mark()
		for i, c := range r.take(n) {
			if c.Payload != i {
				t.Fatalf("delivery %d carries %v", i, c.Payload)
			}
			c.mark()
		}
		wantCommitted(t, s, 1)
	})
}

// An injected delivery is held and injected for like a record.
func TestInjectForAnInjection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		c.Hold().Inject("k", "first")
		c.mark()
		first := r.next()
		h := first.Hold()
		first.mark()
		wantCommitted(t, s, 0)
		h.Inject("k", "second")
		second := r.next()
		wantCommitted(t, s, 0)
		second.mark()
		wantCommitted(t, s, 1)
	})
}

func TestThen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		c.Then("k2", "second step")
		r.quiet(t) // nothing before what came first is acknowledged
		c.mark()

		second := r.next()
		if second.Payload != "second step" || second.Key() != "k2" {
			t.Errorf("payload %v, key %q", second.Payload, second.Key())
		}
		second.Then("k3", "third step")
		r.quiet(t)
		second.mark()
		second.mark() // does not deliver it again

		third := r.next()
		if third.Payload != "third step" {
			t.Errorf("payload %v", third.Payload)
		}
		r.quiet(t)
		wantCommitted(t, s, 0)
		third.mark()
		wantCommitted(t, s, 1)
	})
}

func TestThenAfterInjection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		h, other := c.Hold(), c.Hold()
		c.mark()
		h.Inject("k", "row")
		row := r.next()
		row.Then("k", "reply")
		row.mark()
		reply := r.next()
		reply.mark()
		wantCommitted(t, s, 0) // the other hold
		other.Release()
		wantCommitted(t, s, 1)
	})
}

// Many goroutines inject at once; the state that the callbacks share has no lock, as in goka: the race detector
// tells if two of them ran on different goroutines at once.
func TestInjectFromManyGoroutines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 500
		r := newRig(consumergroup.Options{MaxInFlight: 20})
		var work sync.WaitGroup
		var order []string
		r.processor.callback = func(c *callback) {
			if c.Record == nil {
				order = append(order, fmt.Sprint("done ", c.Payload))
				return
			}
			order = append(order, fmt.Sprint("read ", c.Record.Offset))
			for range c.Record.Offset % 3 {
				h := c.Hold()
				work.Go(func() { h.Inject("k", c.Record.Offset) })
			}
		}
		r.consume(t)
		s := r.broker.assign(requests)
		for offset := range int64(n) {
			s.claims[requests].produce(offset)
		}
		wantCommitted(t, s, n)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		work.Wait()
		if want := n + n; len(order) != want-1 { // 0, 1, 2, 0, 1, ... injections for 500 records
			t.Errorf("%d callbacks, want %d", len(order), want-1)
		}
	})
}
