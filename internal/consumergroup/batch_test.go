package consumergroup_test

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"pgregory.net/rapid"

	"kafkagrpc/internal/consumergroup"
)

// gated is a rig whose handler waits in each turn until the test lets it go on, by a value of gate.
func gated(o consumergroup.Options) (r *rig, gate chan struct{}) {
	r, gate = newRig(o), make(chan struct{})
	r.processor.callback = func(c *callback) {
		c.later = true
		r.got <- c
		<-gate
	}
	return r, gate
}

// upTo are the offsets below n.
func upTo(n int) []int64 {
	offsets := make([]int64, n)
	for i := range offsets {
		offsets[i] = int64(i)
	}
	return offsets
}

// What comes while the handler is busy is taken in as few callbacks as their bound allows, in the order of the partition.
func TestBatchesHaveWhatIsReady(t *testing.T) {
	t.Parallel()
	const most = consumergroup.MaxBatch
	for _, test := range []struct {
		name             string
		records, batches int
	}{
		{"one", 1, 1},
		{"a few", 10, 1},
		{"as many as a batch has", most, 1},
		{"one more", most + 1, 2},
		{"many", 5 * most, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, gate := gated(consumergroup.Options{})
				r.consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(upTo(test.records)...)
				for offset := range int64(test.records) {
					c := r.next()
					if c.Record.Offset != offset {
						t.Fatalf("offset %d came, and %d was next", c.Record.Offset, offset)
					}
					synctest.Wait()
					if held := r.Claims()[0].Held; held > int(offset)+1+most {
						t.Fatalf("%d records are read, and %d taken", held, offset+1)
					}
					gate <- struct{}{}
				}
				r.quiet(t)
				if got := int(r.processor.batches.Load()); got != test.batches {
					t.Errorf("%d callbacks for %d records, want %d", got, test.records, test.batches)
				}
			})
		})
	}
}

// An injection goes before the records that wait, also those of the batch under way, and belongs to it.
func TestInjectionsGoFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, gate := gated(consumergroup.Options{})
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1, 2)
		first := r.next()
		synctest.Wait()
		first.Hold().Inject("k", "a")
		first.Hold().Inject("k", "b")
		first.Then("k", "c")
		first.mark()
		gate <- struct{}{}
		for _, want := range []any{"a", "b", "c", int64(1), int64(2)} {
			c := r.next()
			if got := c.Payload; c.Record == nil && got != want || c.Record != nil && want != c.Record.Offset {
				t.Fatalf("record %v, payload %v came, and %v was next", c.Record, got, want)
			}
			c.mark()
			gate <- struct{}{}
		}
		wantCommitted(t, s, 3)
		if got := r.processor.batches.Load(); got != 1 {
			t.Errorf("%d callbacks", got)
		}
	})
}

// The bounds hold for what a batch has, too.
func TestBoundsOfABatch(t *testing.T) {
	t.Parallel()
	const bytes = 10
	for name, o := range map[string]consumergroup.Options{
		"records":            {MaxInFlight: 3},
		"bytes":              {MaxInFlightBytes: 3 * bytes},
		"uncommitted":        {MaxUncommitted: 3},
		"records, in common": {Budget: consumergroup.NewBudget(3, 0)},
		"bytes, in common":   {Budget: consumergroup.NewBudget(0, 3*bytes)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, gate := gated(o)
				r.consume(t)
				s := r.broker.assign(requests)
				for offset := range int64(6) {
					s.claims[requests].produceSized(offset, bytes)
				}
				all := r.wantOffsets(t, 0)
				for range 2 {
					gate <- struct{}{}
					all = append(all, r.next())
				}
				gate <- struct{}{}
				r.quiet(t)
				if got := r.Claims()[0].Held; got != 3 {
					t.Errorf("%d records are held", got)
				}
				all[0].mark()
				r.wantOffsets(t, 3)
				r.quiet(t)
				gate <- struct{}{}
				r.quiet(t)
			})
		})
	}
}

// A session ends in the middle of a batch: what is taken is finished, and what it injects is delivered; the rest belongs to the next owner.
func TestDrainOfAHalfTakenBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, gate := gated(consumergroup.Options{Drain: time.Hour})
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(upTo(10)...)
		first := r.next()
		gate <- struct{}{}
		second := r.next()
		h := first.Hold()
		first.mark()
		begun := time.Now()
		s.end(sarama.ErrRebalanceInProgress)
		synctest.Wait()
		if got := r.Claims()[0].Held; got != 2 {
			t.Errorf("%d records are held in the drain", got)
		}
		h.Inject("k", "result")
		gate <- struct{}{}
		result := r.next()
		if result.Payload != "result" {
			t.Fatalf("record %v came", result.Record)
		}
		gate <- struct{}{}
		r.quiet(t)
		result.mark()
		second.mark()
		<-s.released
		if took := time.Since(begun); took != 0 {
			t.Errorf("drained for %s", took)
		}
		wantCommitted(t, s, 2)

		s = r.broker.assignFrom(2, requests)
		s.claims[requests].produce(upTo(10)[2:]...)
		for offset := range int64(8) {
			if c := r.next(); c.Record.Offset != offset+2 {
				t.Fatalf("offset %d came, and %d was next", c.Record.Offset, offset+2)
			}
			gate <- struct{}{}
		}
	})
}

// A handler that ends in the middle of a batch, as goka's does by a panic, leaves all of it uncommitted but what it has marked.
func TestHandlerEndsInABatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{})
		ending := true
		r.processor.callback = func(c *callback) {
			c.later = true
			r.got <- c
			if c.Record.Offset == 3 && ending {
				close(r.processor.stop)
				runtime.Goexit()
			}
		}
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(upTo(10)...)
		all := r.take(4)
		<-s.released
		all[0].mark()
		all[2].mark()
		r.quiet(t)
		wantCommitted(t, s, 1)

		ending, r.processor.stop = false, make(chan struct{})
		s = r.broker.assignFrom(1, requests)
		s.claims[requests].produce(upTo(10)[1:]...)
		all = r.take(9)
		for i, c := range all {
			if c.Record.Offset != int64(i)+1 {
				t.Fatalf("offset %d came, and %d was next", c.Record.Offset, i+1)
			}
			c.mark()
		}
		wantCommitted(t, s, 10)
	})
}

// A batch that comes to the handler after a freeze has nothing.
func TestBatchAfterAFreeze(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const session = 10 * time.Second
		r, gate := gated(consumergroup.Options{SessionTimeout: session, EndWhenFrozen: true})
		r.consume(t)
		other := partition{"loop", 0} // shares the goroutine of its partition
		s := r.broker.assign(requests, other)
		s.claims[requests].produce(0)
		r.next()
		s.claims[other].produce(0)
		synctest.Wait() // its token waits
		r.Freeze(session)
		gate <- struct{}{}
		r.quiet(t)
		<-s.released
	})
}

// Records are delivered in their order, injections before them and in theirs, each once, within the bounds, whatever is produced, injected, and finished
// while the handler is where in a batch; and what is finished when the session ends is what is committed.
func TestDeliveriesAgainstModel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		withoutDeadline := struct{ testing.TB }{t}
		rapid.Check(withoutDeadline, func(t *rapid.T) {
			const most, mostBytes, bytes = 7, 60, 10
			budget := consumergroup.NewBudget(most-1, 0)
			r, gate := gated(consumergroup.Options{MaxInFlight: most, MaxInFlightBytes: mostBytes, Budget: budget, Drain: time.Hour})
			r.consume(t)
			s := r.broker.assign(requests)
			var produced, delivered, next int64
			var injected []int64 // payloads on their way
			var open []*callback
			holds := map[*callback][]*consumergroup.Hold{}
			todo := map[int64]int{} // what is left, by offset of the record
			var busy *callback      // in its turn
			record := func(c *callback) int64 {
				if c.Record != nil {
					return c.Record.Offset
				}
				return c.Payload.(int64)
			}
			look := func() {
				synctest.Wait()
				for len(r.got) > 0 {
					c := r.next()
					switch {
					case busy != nil:
						t.Fatalf("two turns at a time")
					case len(injected) > 0:
						if c.Record != nil || c.Payload != injected[0] {
							t.Fatalf("record %v, payload %v came before the injection for %d", c.Record, c.Payload, injected[0])
						}
						injected = injected[1:]
					case c.Record == nil:
						t.Fatalf("injection for %v came once more", c.Payload)
					case c.Record.Offset != next:
						t.Fatalf("offset %d came, and %d was next", c.Record.Offset, next)
					default:
						next++
						delivered++
						todo[c.Record.Offset]++
					}
					busy = c
					open = append(open, c)
				}
				state := r.Claims()
				if len(state) == 0 {
					return
				}
				if used, _ := budget.Used(); state[0].Held > most || state[0].HeldBytes > mostBytes || used > most-1 {
					t.Fatalf("%d records are held, %d in common", state[0].Held, used)
				}
			}
			<-s.started
			pick := func() (int, *callback) {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "delivery")
				return i, open[i]
			}
			actions := map[string]func(*rapid.T){
				"produce": func(t *rapid.T) {
					for range rapid.IntRange(1, 10).Draw(t, "records") {
						s.claims[requests].produceSized(produced, bytes)
						produced++
					}
				},
				"go on": func(*rapid.T) {
					if busy != nil {
						busy = nil
						gate <- struct{}{}
					}
				},
				"hold": func(*rapid.T) {
					if len(open) > 0 {
						_, c := pick()
						holds[c] = append(holds[c], c.Hold())
						todo[record(c)]++
					}
				},
				"inject": func(*rapid.T) {
					i := slices.IndexFunc(open, func(c *callback) bool { return len(holds[c]) > 0 })
					if i < 0 {
						return
					}
					c := open[i]
					if !holds[c][0].Inject("k", record(c)) {
						t.Fatal("not injected")
					}
					holds[c] = holds[c][1:]
					injected = append(injected, record(c))
				},
				"mark": func(*rapid.T) {
					if len(open) > 0 {
						i, c := pick()
						if len(holds[c]) == 0 {
							open = slices.Delete(open, i, i+1)
							c.mark()
							todo[record(c)]--
						}
					}
				},
				"": func(t *rapid.T) {
					look()
					var want int64
					for want < delivered && todo[want] == 0 {
						want++
					}
					if got := s.committed(requests); got != want {
						t.Fatalf("committed %d, want %d", got, want)
					}
				},
			}
			t.Repeat(actions)
			s.end(sarama.ErrRebalanceInProgress) // where in a batch it may be
			for busy != nil || len(open) > 0 {
				look()
				for _, c := range open {
					for _, h := range holds[c] {
						h.Inject("k", record(c))
						injected = append(injected, record(c))
					}
					delete(holds, c)
				}
				actions["go on"](t)
				look()
				for _, c := range open {
					c.mark()
				}
				open = nil
			}
			<-s.released
			if got := s.committed(requests); got != delivered {
				t.Fatalf("committed %d, and %d of %d were delivered", got, delivered, produced)
			}
		})
	})
}
