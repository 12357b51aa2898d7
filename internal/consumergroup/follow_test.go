package consumergroup_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"kafkagrpc/internal/consumergroup"
)

// acked counts how often it is acknowledged.
type acked struct{ times *atomic.Int32 }

func (a acked) Acknowledged() { a.times.Add(1) }

func TestPayloadLearnsThatItIsAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		record := r.next()
		var times atomic.Int32
		record.Hold().Inject("key", acked{&times})
		record.mark()
		injected := r.next()
		if times.Load() != 0 {
			t.Error("acknowledged before the mark")
		}
		injected.mark()
		injected.mark() // goka may mark twice
		if times.Load() != 1 {
			t.Errorf("acknowledged %d times, want once", times.Load())
		}
		synctest.Wait()
		wantCommitted(t, s, 1)
	})
}

func TestEndsGivesUpTheEarlierRecordTogetherWithItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1)
		first, last := r.next(), r.next()
		open := first.Hold()
		first.mark()
		last.Follow(open)
		last.Ends(open)
		own := last.Hold()
		last.mark()
		wantCommitted(t, s, 0)
		own.Release() // finishes the last one, and the first with it
		wantCommitted(t, s, 2)
		open.Release() // is used up
		wantCommitted(t, s, 2)
	})
}

func TestRecordLearnsThatItBlocksItsClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxUncommitted: 2}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		first := r.next()
		hold := first.Hold()
		var told atomic.Int32
		first.WhenBlocking(func() {
			told.Add(1)
			hold.Inject("key", "blocked")
		})
		first.mark()
		synctest.Wait()
		if told.Load() != 0 {
			t.Error("told while there was room")
		}
		s.claims[requests].produce(1, 2, 3)
		r.next().mark() // the second one is finished, and stands behind the first
		blocked := r.next()
		if blocked.Payload != "blocked" {
			t.Fatalf("next is %v, want what the full window injected", blocked.Payload)
		}
		blocked.mark()
		r.next().mark()
		r.next().mark()
		wantCommitted(t, s, 4)
		if told.Load() != 1 {
			t.Errorf("told %d times, want once", told.Load())
		}
	})
}
