package consumergroup_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kafkagrpc/internal/consumergroup"
)

// rests are the offsets of those among the callbacks that are known to rest.
func rests(all []*callback) (offsets []int64) {
	for _, c := range all {
		if c.Rested() {
			offsets = append(offsets, c.Record.Offset)
		}
	}
	return offsets
}

// A record that rests keeps its offset, and is known to rest in later sessions; those that followed it need not come again.
func TestRestingRecordIsKnownInLaterSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r := newRig(m.options()).consume(t)
		s := r.resume(0, 6)
		all := r.take(6)
		open := all[1].Await()
		all[2].Follow(open)
		for _, i := range []int{0, 2, 4, 5} {
			all[i].mark()
		}
		open.Rest()
		wantCommitted(t, s, 1)
		all[1].mark()
		if offset, _ := m.crash(s); offset != 1 {
			t.Fatalf("committed %d", offset)
		}
		for range 3 { // from session to session
			s = r.resume(1, 7)
			offsets, all := r.delivered()
			if want := []int64{1, 3, 6}; !slices.Equal(offsets, want) || !slices.Equal(rests(all), []int64{1}) {
				t.Fatalf("delivered %d, resting %d, want %d, and the first rests", offsets, rests(all), want)
			}
			open = all[0].Await()
			open.Rest()
			all[0].mark()
			m.crash(s)
		}
		s = r.resume(1, 7)
		_, all = r.delivered()
		open = all[0].Await()
		open.Rest()
		for _, c := range all {
			c.mark()
		}
		wantCommitted(t, s, 1)
		open.Release()
		wantCommitted(t, s, 7)
	})
}

// What of its own is not acknowledged comes again, and so do the records that belong to it.
func TestRecordRestsOnlyWhenAllOfItIsAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r := newRig(m.options()).consume(t)
		s := r.resume(0, 4)
		all := r.take(4)
		for _, c := range all[:2] {
			open := c.Await()
			c.Hold().Inject("key", "answer")
			c.mark()
			open.Rest()
			if c == all[0] {
				all[2].Follow(open)
				all[2].mark()
			}
		}
		all[3].mark()
		first := r.next()
		r.next().mark() // that of the second one
		m.crash(s)
		_ = first
		r.resume(0, 4)
		offsets, all := r.delivered()
		if want := []int64{0, 1, 2}; !slices.Equal(offsets, want) || !slices.Equal(rests(all), []int64{1}) {
			t.Errorf("delivered %d, resting %d, want %d, and only the second rests", offsets, rests(all), want)
		}
	})
}

// A session that ends soon does not forget what it did not come to.
func TestWhatASessionHasNotReadIsStillKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r := newRig(m.options()).consume(t)
		s := r.resume(0, 8)
		all := r.take(8)
		for _, i := range []int{1, 3} {
			all[i].Await().Rest()
		}
		for _, i := range []int{1, 3, 5, 6} { // 0, 2, 4 and 7 are not finished
			all[i].mark()
		}
		m.crash(s)
		for _, end := range []int64{2, 1, 3} {
			s = r.resume(0, end)
			for offsets, all := r.delivered(); len(all) > 0; offsets, all = offsets[1:], all[1:] {
				if all[0].Rested() {
					all[0].Await().Rest()
					all[0].mark()
				}
			}
			m.crash(s)
		}
		s = r.resume(0, 8)
		offsets, all := r.delivered()
		if want := []int64{0, 1, 2, 3, 4, 7}; !slices.Equal(offsets, want) || !slices.Equal(rests(all), []int64{1, 3}) {
			t.Fatalf("delivered %d, resting %d, want %d, and 1 and 3 rest", offsets, rests(all), want)
		}
		// Nor does a commit, with which only what is read now counts.
		for _, i := range []int{1, 3} {
			all[i].Await().Rest()
			all[i].mark()
		}
		all[0].mark()
		wantCommitted(t, s, 1)
		offset, _ := m.crash(s)
		r.resume(offset, 8)
		if offsets, all := r.delivered(); !slices.Equal(offsets, []int64{1, 2, 3, 4, 7}) || !slices.Equal(rests(all), []int64{1, 3}) {
			t.Errorf("delivered %d, resting %d", offsets, rests(all))
		}
	})
}

// It rests already when it is read: a session that ends before its handler came to it makes it no other record.
func TestRestingRecordThatIsNotHandledYetRests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r := newRig(m.options()).consume(t)
		s := r.resume(0, 4)
		all := r.take(4)
		open := all[1].Await()
		open.Rest()
		all[2].Follow(open)
		all[1].mark()
		all[2].mark()
		m.crash(s)
		for _, last := range []bool{false, true} {
			s = r.resume(0, 4)
			offsets, all := r.delivered()
			want := []int64{0, 1, 3}
			if last {
				want = want[:2]
			}
			if !slices.Equal(offsets, want) || !slices.Equal(rests(all), []int64{1}) {
				t.Fatalf("delivered %d, resting %d, want %d, and 1 rests", offsets, rests(all), want)
			}
			if !last {
				all[2].mark()
			}
			m.crash(s)
		}
	})
}

// Nothing is in flight for a record that waits for others: the end of its session does not wait for it, nor do the bounds.
func TestDrainDoesNotWaitForRecordsThatWaitForOthers(t *testing.T) {
	for name, rest := range map[string]bool{"waiting": false, "resting": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{Drain: time.Hour}).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0, 1)
				all := r.take(2)
				open := all[0].Await()
				if rest {
					open.Rest()
				}
				all[0].mark()
				working := all[1].Hold()
				all[1].mark()
				s.end(nil)
				if over(s.released) {
					t.Fatal("the session ended before the work was done")
				}
				working.Release()
				if !over(s.released) {
					t.Error("the session waits for what does not come any more")
				}
				wantCommitted(t, s, 0)
			})
		})
	}
}

func TestRestingRecordsCountAgainstNoBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		budget := consumergroup.NewBudget(2, 1000)
		r := newRig(consumergroup.Options{MaxInFlight: 2, Budget: budget}).consume(t)
		s := r.broker.assign(requests)
		var open []*consumergroup.Hold
		for offset := range int64(10) {
			s.claims[requests].produce(offset)
			c := r.next()
			open = append(open, c.Await())
			open[offset].Rest()
			c.mark()
			c.Charge(100) // too late to count
		}
		synctest.Wait()
		if n, bytes := budget.Used(); n != 0 || bytes != 0 {
			t.Errorf("%d records and %d bytes are in flight, want none", n, bytes)
		}
		wantCommitted(t, s, 0)
		for _, h := range open {
			h.Release()
		}
		wantCommitted(t, s, 10)
		if n, bytes := budget.Used(); n != 0 || bytes != 0 {
			t.Errorf("%d records and %d bytes are in flight at the end, want none", n, bytes)
		}
	})
}

func TestRestingRecordThatBlocksItsClaimCanBeReleased(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxUncommitted: 2}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1, 2, 3)
		first := r.next()
		open := first.Await()
		var told atomic.Int32
		first.WhenBlocking(func() { told.Add(1); open.Release() })
		open.Rest()
		first.mark()
		for range 3 {
			r.next().mark()
		}
		wantCommitted(t, s, 4)
		if told.Load() != 1 {
			t.Errorf("told %d times, want once", told.Load())
		}
	})
}
