package consumergroup_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"kafkagrpc/internal/consumergroup"
)

func TestCommitsFinishedPrefix(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		offsets []int64
		mark    []int   // by index, in this order
		commits []int64 // all that reaches sarama
	}{
		{"in order", []int64{0, 1, 2}, []int{0, 1, 2}, []int64{1, 2, 3}},
		{"in reverse", []int64{0, 1, 2}, []int{2, 1, 0}, []int64{3}},
		{"a slow one", []int64{0, 1, 2, 3}, []int{0, 2, 3, 1}, []int64{1, 4}},
		{"the first never", []int64{0, 1, 2, 3}, []int{3, 1, 2}, nil},
		{"compacted topic", []int64{10, 17, 40}, []int{1, 0, 2}, []int64{18, 41}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{}).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(test.offsets...)
				all := r.take(len(test.offsets))
				for _, i := range test.mark {
					all[i].mark()
				}
				synctest.Wait()
				if got := s.commits[requests]; !slices.Equal(got, test.commits) {
					t.Errorf("commits = %d, want %d", got, test.commits)
				}
			})
		})
	}
}

func TestPartitionsCommitApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		others := []partition{{"requests", 1}, {"loop", 0}}
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests, others[0], others[1])
		s.claims[requests].produce(0, 1)
		r.take(2)[1].mark() // the first one stays
		for i, p := range others {
			s.claims[p].produce(0, 1)
			for _, c := range r.take(2)[:i+1] {
				c.mark()
			}
		}
		wantCommitted(t, s, 0)
		for i, p := range others {
			if got := s.committed(p); got != int64(i+1) {
				t.Errorf("%v: committed %d, want %d", p, got, i+1)
			}
		}
	})
}

func TestMarks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		act  func(all []*callback)
		want int64
	}{
		{"twice on a held record", func(all []*callback) { all[0].Hold(); all[0].mark(); all[0].mark() }, 0},
		{"twice on a finished record", func(all []*callback) { all[0].mark(); all[0].mark() }, 1},
		{"of messages", func(all []*callback) {
			for id := range int32(3) {
				all[0].session.MarkOffset("requests", id, 1, "")
				all[0].session.MarkOffset("other", id, 1, "")
			}
			all[0].session.MarkMessage(all[0].message, "")
		}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{Drain: 1}).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0, 1)
				test.act(r.take(2))
				wantCommitted(t, s, test.want)
			})
		})
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		act  func(c *callback)
		want int64
	}{
		{"none", func(c *callback) { c.mark() }, 1},
		{"held", func(c *callback) { c.Hold(); c.mark() }, 0},
		{"released", func(c *callback) { h := c.Hold(); c.mark(); h.Release() }, 1},
		{"released before the mark", func(c *callback) { c.Hold().Release(); c.mark() }, 1},
		{"released and not marked", func(c *callback) { c.Hold().Release() }, 0},
		{"one of two released", func(c *callback) { h := c.Hold(); c.Hold(); c.mark(); h.Release() }, 0},
		{"one of two released twice", func(c *callback) { h := c.Hold(); c.Hold(); c.mark(); h.Release(); h.Release() }, 0},
		{"both released", func(c *callback) { h, i := c.Hold(), c.Hold(); c.mark(); h.Release(); i.Release() }, 1},
		{"held when finished already", func(c *callback) { c.mark(); c.Hold().Release() }, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{Drain: 1}).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0, 1)
				test.act(r.next())
				wantCommitted(t, s, test.want)
			})
		})
	}
}

// A hold on a record that is finished has nothing to keep, and must not disturb the bound that counts
// unfinished records.
func TestHoldOnFinishedRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxInFlight: 1, Drain: 1}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1, 2)
		c := r.next()
		c.mark()
		h := c.Hold()
		if h.Inject("k", "late") {
			t.Error("a finished record took an injection")
		}
		h.Release()
		c.Hold().Release()
		r.next()
		r.quiet(t) // one in flight, as allowed
		wantCommitted(t, s, 1)
	})
}

// Whatever the order in which marks, releases, injections and their marks come, no commit passes an
// unfinished record, every finished prefix is committed, and all are committed in the end.
func TestCommitsInAnyOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		withoutDeadline := struct{ testing.TB }{t} // rapid asks a *testing.T for its deadline, which a bubble has not
		rapid.Check(withoutDeadline, func(t *rapid.T) {
			r := newRig(consumergroup.Options{MaxInFlight: 100}).consume(t)
			s := r.broker.assign(requests)

			var offsets []int64
			todo := map[int64]int{} // steps that are left, by offset of the record
			next := rapid.Int64Range(0, 5).Draw(t, "first offset")
			for range rapid.IntRange(1, 12).Draw(t, "records") {
				offsets = append(offsets, next)
				next += rapid.SampledFrom([]int64{1, 1, 7}).Draw(t, "gap")
			}
			s.claims[requests].produce(offsets...)

			var steps []func()
			can := func(record int64, step func()) {
				todo[record]++
				steps = append(steps, func() { todo[record]--; step() })
			}
			for _, c := range r.take(len(offsets)) {
				record := c.Record.Offset
				can(record, c.mark)
				for range rapid.IntRange(0, 3).Draw(t, "holds") {
					h := c.Hold()
					if rapid.Bool().Draw(t, "inject") {
						can(record, func() {
							todo[record]++ // the mark of the injected one
							h.Inject("k", record)
						})
					} else {
						can(record, h.Release)
					}
				}
			}
			for len(steps) > 0 {
				i := rapid.IntRange(0, len(steps)-1).Draw(t, "step")
				step := steps[i]
				steps = slices.Delete(steps, i, i+1)
				step()

				synctest.Wait()
				for len(r.got) > 0 {
					c := r.next()
					record := c.Payload.(int64)
					todo[record]-- // counted by the injection
					if rapid.IntRange(0, 3).Draw(t, "then") == 0 {
						c.Then("k", record)
						can(record, func() { todo[record]++; c.mark() })
					} else {
						can(record, c.mark)
					}
				}
				var want int64
				for _, offset := range offsets {
					if todo[offset] > 0 {
						break
					}
					want = offset + 1
				}
				if got := s.committed(requests); got != want {
					t.Fatalf("committed %d, want %d; steps left: %v", got, want, todo)
				}
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if got, want := s.committed(requests), offsets[len(offsets)-1]+1; got != want {
				t.Fatalf("committed %d at the end, want %d", got, want)
			}
		})
	})
}
