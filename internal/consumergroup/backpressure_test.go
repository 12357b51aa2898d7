package consumergroup_test

import (
	"testing"

	"kafkagrpc/internal/consumergroup"
)

func TestMaxInFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxInFlight: 3}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1, 2, 3, 4, 5, 6)
		all := r.take(3)
		r.quiet(t)

		// Results come through while nothing is read, and free a place only when they are acknowledged.
		h := all[1].Hold()
		all[1].mark()
		r.quiet(t)
		h.Inject("k", "result")
		result := r.next()
		r.quiet(t)
		result.mark()
		if c := r.next(); c.Record == nil || c.Record.Offset != 3 {
			t.Fatalf("next delivery is record %v, payload %v", c.Record, c.Payload)
		}
		r.quiet(t)
		wantCommitted(t, s, 0)

		all[0].mark()
		all[2].mark()
		r.take(2)
		r.quiet(t)
		wantCommitted(t, s, 3)
	})
}

func TestMaxUncommitted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxInFlight: 100, MaxUncommitted: 5}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 10, 20, 30, 40, 50, 60, 70) // records count, not the distance of offsets
		all := r.take(5)
		for _, c := range all[1:] {
			c.mark()
		}
		r.quiet(t) // one in flight, but it is the first

		h := all[0].Hold()
		all[0].mark()
		h.Inject("k", "result")
		result := r.next()
		r.quiet(t)
		result.mark()
		r.take(3)
		wantCommitted(t, s, 41)
	})
}

func TestPartitionsDoNotBlockEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		other := partition{"requests", 1}
		r := newRig(consumergroup.Options{MaxInFlight: 1}).consume(t)
		s := r.broker.assign(requests, other)
		s.claims[requests].produce(0, 1)
		r.next()
		s.claims[other].produce(0, 1, 2)
		for range 3 {
			c := r.next()
			if c.Record.Partition != other.id {
				t.Fatalf("record of partition %d", c.Record.Partition)
			}
			c.mark()
		}
		r.quiet(t)
	})
}
