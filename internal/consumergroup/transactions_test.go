package consumergroup_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

// transactions are what a producer would commit.
type transactions struct {
	stirred atomic.Int32
	settle  func() error
}

func (x *transactions) Stir()         { x.stirred.Add(1) }
func (x *transactions) Settle() error { return x.settle() }

// newTransactionsRig is a rig whose offsets are committed in transactions: by its test, and by the settling at the end of a session.
func newTransactionsRig(m *memory, o consumergroup.Options) (*rig, *transactions) {
	x := &transactions{}
	if m.response == nil {
		m.keep(0, "")
	}
	o.Transactions, o.Committed = x, m.options().Committed
	r := newRig(o)
	x.settle = func() error {
		_, err := r.commitTo(m)
		return err
	}
	return r, x
}

// commitTo is a transaction; it reports whether the partition of the tests is among what it commits.
func (r *rig) commitTo(m *memory) (some bool, _ error) {
	taken, err := r.TransactionOffsets()
	for _, o := range taken.Offsets {
		if o.Topic == requests.topic && o.Partition == requests.id {
			m.keep(o.Offset, o.Metadata)
			some = true
		}
	}
	return some, err
}

// wantSnapshot takes a snapshot.
func (r *rig) wantSnapshot(t testing.TB, want ...consumergroup.CommittedOffset) {
	t.Helper()
	synctest.Wait()
	got, err := r.TransactionOffsets()
	if err != nil {
		t.Fatal(err)
	}
	all := consumergroup.MemberOffsets{}
	if len(want) > 0 {
		all = consumergroup.MemberOffsets{MemberID: testMember, Generation: testGeneration, Offsets: want}
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Fatalf("the snapshot is not as wanted (-want +got):\n%s", diff)
	}
}

func at(offset int64, finished ...[2]int64) consumergroup.CommittedOffset {
	return consumergroup.CommittedOffset{Topic: requests.topic, Offset: offset, Metadata: consumergroup.Metadata(offset, finished...)}
}

func TestTransactionOffsets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		m.keep(5, "")
		r, x := newTransactionsRig(&m, consumergroup.Options{})
		r.consume(t)
		r.wantSnapshot(t)
		s := r.broker.assignFrom(5, requests)
		s.claims[requests].produce(5, 6, 7, 10)
		all := r.take(4)
		r.wantSnapshot(t) // nothing happened

		stirred := x.stirred.Load()
		all[1].mark()
		if x.stirred.Load() == stirred {
			t.Error("a mark did not stir")
		}
		r.wantSnapshot(t, at(5, [2]int64{6, 7}))
		r.wantSnapshot(t) // since then

		held := all[0].Hold()
		all[0].mark()
		r.wantSnapshot(t, at(5, [2]int64{6, 7})) // what it wrote must be fenced
		all[0].mark()
		all[1].Hold().Release()
		r.wantSnapshot(t)

		stirred = x.stirred.Load()
		held.Release()
		if x.stirred.Load() == stirred {
			t.Error("a release did not stir")
		}
		r.wantSnapshot(t, at(7))

		all[2].Hold().Inject("key", "result")
		all[2].mark()
		r.wantSnapshot(t, at(7))
		r.next().mark()
		r.wantSnapshot(t, at(10)) // nothing is between
		all[3].mark()
		r.wantSnapshot(t, at(11))

		if !r.Inject(requests.topic, requests.id, "key", "work of its own") {
			t.Fatal("not injected")
		}
		r.next().mark()
		r.wantSnapshot(t, at(11))
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r.wantSnapshot(t)
		if len(s.commits) > 0 {
			t.Errorf("sarama was told %v", s.commits)
		}
	})
}

func TestTransactionHasAllPartitions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		m.keep(0, "")
		loop, idle := partition{"loop", 1}, partition{"requests", 1}
		for _, p := range []partition{loop, idle} {
			m.response.AddBlock(p.topic, p.id, &sarama.OffsetFetchResponseBlock{})
		}
		r, _ := newTransactionsRig(&m, consumergroup.Options{})
		r.consume(t)
		s := r.broker.assign(requests, loop, idle)
		for p, c := range s.claims {
			c.produce(0)
			if c := r.next(); p != idle {
				c.mark()
			}
		}
		r.wantSnapshot(t, consumergroup.CommittedOffset{Topic: "loop", Partition: 1, Offset: 1}, at(1))
	})
}

// Offsets also move where nothing was written: those of no record, where a claim begins, and what earlier sessions had finished.
func TestTransactionsCommitWhatMovedWithoutAMark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		m.keep(-1, "")
		o := offsets{start: 3, end: 3, stable: 3}
		r, x := newTransactionsRig(&m, consumergroup.Options{Offsets: &o})
		r.consume(t)
		s := r.broker.assignFrom(sarama.OffsetOldest, requests)
		r.quiet(t)
		if x.stirred.Load() == 0 {
			t.Error("a claim that begins did not stir")
		}
		r.wantSnapshot(t, at(3))
		stirred := x.stirred.Load()
		o.log(s, 10)
		time.Sleep(looks)
		r.wantSnapshot(t, at(10))
		if x.stirred.Load() == stirred {
			t.Error("what was passed did not stir")
		}
		s.end(sarama.ErrRebalanceInProgress)
		<-s.released

		m.keep(10, consumergroup.Metadata(10, [2]int64{11, 12}, [2]int64{13, 14}))
		stirred = x.stirred.Load()
		s = r.broker.assignFrom(10, requests)
		s.claims[requests].produce(10, 11)
		c := r.next()
		r.wantSnapshot(t, at(10, [2]int64{11, 12}, [2]int64{13, 14}))
		if x.stirred.Load() == stirred {
			t.Error("what was skipped did not stir")
		}
		c.mark()
		r.wantSnapshot(t, at(12, [2]int64{13, 14}))
		if len(s.commits) > 0 {
			t.Errorf("sarama was told %v", s.commits)
		}
	})
}

// The last transaction of a session is of claims that are still known, and the next session begins behind it.
func TestSessionSettlesBeforeItsClaimsAreForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r, x := newTransactionsRig(&m, consumergroup.Options{})
		settled := 0
		cleaned := false
		r.processor.cleanup = func() error { cleaned = true; return nil }
		x.settle = func() error {
			settled++
			if !cleaned || len(r.Claims()) != 1 {
				t.Errorf("cleaned up: %t, claims: %v", cleaned, r.Claims())
			}
			_, err := r.commitTo(&m)
			return err
		}
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1)
		all := r.take(2)
		hold := all[0].Hold()
		for _, c := range all {
			c.mark()
		}
		s.end(sarama.ErrRebalanceInProgress)
		synctest.Wait()
		if settled > 0 {
			t.Error("settled before the end of the drain")
		}
		hold.Release()
		<-s.released
		if settled != 1 || m.response.GetBlock(requests.topic, requests.id).Offset != 2 {
			t.Errorf("settled %d times, committed %+v", settled, m.response)
		}
		r.broker.assignFrom(2, requests)
		r.quiet(t)
		r.wantSnapshot(t)
	})
}

// What is not known to be committed is in nobody's hands but the broker's: Consume ends, and no transaction may be committed any more.
func TestSessionThatCannotSettleEndsConsume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r, x := newTransactionsRig(&m, consumergroup.Options{})
		x.settle = func() error { return errTest }
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		r.next().mark()
		s.end(sarama.ErrRebalanceInProgress)
		<-r.done
		if !errors.Is(r.err, errTest) {
			t.Errorf("Consume() = %v", r.err)
		}
		if got, err := r.TransactionOffsets(); !errors.Is(err, errTest) || len(got.Offsets) > 0 {
			t.Errorf("TransactionOffsets() = %v, %v", got, err)
		}
	})
}

// A transaction with something of a claim that is gone must not be committed: its record comes again.
func TestWhatIsWrittenLateIsNotCommitted(t *testing.T) {
	t.Parallel()
	for name, settle := range map[string]func(late *callback){
		"after the last transaction": func(*callback) {},
		"with the last transaction":  func(c *callback) { c.mark() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var m memory
				r, x := newTransactionsRig(&m, consumergroup.Options{})
				var late *callback
				x.settle = func() error {
					_, err := r.commitTo(&m)
					settle(late)
					return err
				}
				r.consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0)
				late = r.next()
				s.end(sarama.ErrUnknownMemberId)
				<-s.released
				late.mark()
				for range 2 {
					if _, err := r.TransactionOffsets(); !errors.Is(err, consumergroup.ErrWrittenLate) {
						t.Errorf("TransactionOffsets() = %v", err)
					}
				}
			})
		})
	}
}

// Records that were finished would be answered again.
func TestSessionDoesNotBeginWithoutKnowingWhatIsFinished(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		fail func(m *memory)
	}{
		{"no answer", func(m *memory) { m.response = nil }},
		{"an answer without the partition", func(m *memory) { m.response = &sarama.OffsetFetchResponse{} }},
		{"an error of the partition", func(m *memory) {
			m.response.GetBlock(requests.topic, requests.id).Err = sarama.ErrOffsetsLoadInProgress
		}},
		{"committed meanwhile", func(m *memory) { m.keep(1, "") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var m memory
				metadata := consumergroup.Metadata(0, [2]int64{1, 2})
				m.keep(0, metadata)
				r, _ := newTransactionsRig(&m, consumergroup.Options{})
				test.fail(&m)
				up := 0
				r.processor.setup = func(sarama.ConsumerGroupSession) error { up++; return nil }
				r.processor.cleanup = func() error {
					if up--; up < 0 {
						t.Error("what was not set up was cleaned up")
					}
					return nil
				}
				r.consume(t)
				for range 3 {
					s := r.broker.assign(requests)
					s.claims[requests].produce(0, 1, 2)
					<-s.released
				}
				r.quiet(t)
				m.keep(0, metadata)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0, 1, 2)
				time.Sleep(10 * time.Second) // the back-off
				if offsets, _ := r.delivered(); !slices.Equal(offsets, []int64{0, 2}) {
					t.Errorf("delivered %d", offsets)
				}
			})
		})
	}
}

// A record that is passed on is written, and finished, also when its session has no time left.
func TestSurplusIsMarkedWhenItIsPassedOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		m.keep(0, "")
		m.response.AddBlock(further.topic, further.id, &sarama.OffsetFetchResponseBlock{})
		on := make(chan passed, 10)
		r, x := newTransactionsRig(&m, consumergroup.Options{
			Partitions: 3, Drain: 1,
			Surplus: func(r *wire.Record, done func(error)) { on <- passed{r.Offset, done} },
		})
		x.settle = func() error {
			(<-on).done(nil)
			r.wantSnapshot(t, consumergroup.CommittedOffset{Topic: further.topic, Partition: further.id, Offset: 1})
			return nil
		}
		r.consume(t)
		s := r.broker.assign(requests, further)
		s.claims[further].produce(0)
		r.quiet(t)
		r.wantSnapshot(t)
		s.end(sarama.ErrRebalanceInProgress)
		<-s.released
	})
}

// wide are the options of a claim that only MaxSpan bounds.
var wide = consumergroup.Options{MaxInFlight: 20_000}

// A claim reads as far as metadata can tell what is finished, and tells who is in the way.
func TestClaimReadsNoFurtherThanMetadataTells(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r, _ := newTransactionsRig(&m, wide)
		r.consume(t)
		s := r.broker.assign(requests)
		const stride = 2 // every second offset is no record, and every second record is finished
		var told atomic.Int32
		s.claims[requests].produce(0)
		head := r.next()
		head.WhenBlocking(func() { told.Add(1) })
		n := int(consumergroup.MaxSpan / stride)
		for i := range n { // the last one is a step too far
			s.claims[requests].produce(int64(stride * (i + 1)))
		}
		all := append([]*callback{head}, r.take(n-1)...)
		r.quiet(t)
		if last := all[n-1].Record.Offset; last != consumergroup.MaxSpan-stride || told.Load() != 1 {
			t.Fatalf("read up to %d, told %d times", last, told.Load())
		}
		finished := map[int64]bool{}
		for i, c := range all {
			if i%2 == 1 {
				finished[c.Record.Offset] = true
				c.mark()
			}
		}
		check := func() (offset int64) {
			t.Helper()
			synctest.Wait()
			if some, err := r.commitTo(&m); !some || err != nil {
				t.Fatal(some, err)
			}
			block := m.response.GetBlock(requests.topic, requests.id)
			if !strings.HasPrefix(block.Metadata, "finished/3:") || len(block.Metadata) > 4096 {
				t.Fatalf("%d characters: %.20s", len(block.Metadata), block.Metadata)
			}
			told, err := consumergroup.Told(block.Metadata)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				o := c.Record.Offset
				if got, _ := told(o); (got || o < block.Offset) != finished[o] {
					t.Fatalf("%d is finished: %t; told at %d: %t", o, finished[o], block.Offset, got)
				}
			}
			return block.Offset
		}
		check()

		// The next owner has just begun, and its metadata tells all of that still. It reads no further, either.
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r, _ = newTransactionsRig(&m, wide)
		r.consume(t)
		s = r.broker.assign(requests)
		s.claims[requests].produce(0, stride, 2*stride)
		all = append(r.take(2), all...) // the second one is finished
		all[0].WhenBlocking(func() { told.Add(1) })
		all[1].mark()
		finished[2*stride] = true
		if offset := check(); offset != 0 {
			t.Errorf("committed %d", offset)
		}
		for i := 3; i <= n; i++ {
			s.claims[requests].produce(int64(stride * i))
		}
		s.claims[requests].produce(10 * consumergroup.MaxSpan)
		rest := r.take(n - len(finished) - 1)
		r.quiet(t)
		if told.Load() != 2 {
			t.Errorf("told %d times", told.Load())
		}
		all[0].mark()
		rest = append(rest, r.next())
		if last := rest[len(rest)-1]; last.Record.Offset != consumergroup.MaxSpan {
			t.Errorf("went on with %d", last.Record.Offset)
		}
		// What lies beyond all of that is read when it is the first one.
		for _, c := range rest[:len(rest)-1] {
			c.mark()
		}
		r.quiet(t)
		rest[len(rest)-1].mark()
		if c := r.next(); c.Record.Offset != 10*consumergroup.MaxSpan {
			t.Errorf("went on with %d", c.Record.Offset)
		}
		r.wantSnapshot(t, at(10*consumergroup.MaxSpan))
	})
}

// Without transactions an owner may have finished more, farther off: it stays told, and what is unfinished in it comes one by one.
func TestMetadataOfSessionsWithoutTransactionsIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		m.keep(0, consumergroup.Metadata(0, [2]int64{1, 5}, [2]int64{6, 50_000}, [2]int64{50_001, 90_000}))
		r, _ := newTransactionsRig(&m, wide)
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1, 5, 6, 50_000, 50_001, 90_000, 90_001)
		c := r.next()
		r.quiet(t)
		r.wantSnapshot(t, at(0, [2]int64{1, 5}, [2]int64{6, 50_000}, [2]int64{50_001, 90_000})) // 1 was skipped
		c.mark()
		c = r.next()
		r.quiet(t)
		r.wantSnapshot(t, at(5, [2]int64{6, 50_000}, [2]int64{50_001, 90_000}))
		c.mark()
		c = r.next()
		r.quiet(t)
		r.wantSnapshot(t, at(50_000, [2]int64{50_001, 90_000}))
		c.mark()
		for _, c := range r.take(2) {
			c.mark()
		}
		r.wantSnapshot(t, at(90_002))
	})
}

// modelled is what a record of the model is about.
type modelled struct {
	marked, held, injected, rests, restWanted bool
	leader                                    *modelled // which it follows
	hold                                      *consumergroup.Hold
	awaits                                    bool
	callback                                  *callback
	result                                    *callback
}

func (r *modelled) finished() bool { return r.marked && !r.held && !r.injected }
func (r *modelled) open() bool     { return !r.finished() && !r.rests }
func (r *modelled) toldFinished() bool {
	return r.finished() && (r.leader == nil || !r.leader.open())
}

// Whatever happens in whatever order, over several sessions that settle or crash: a snapshot is there when something happened, and only then; it tells of each record
// whether it is finished, or rests; and that is what the next session skips.
func TestTransactionOffsetsAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			var m memory
			finished, resting := map[int64]bool{}, map[int64]bool{} // as committed
			var log []int64
			end := rapid.Int64Range(0, 3).Draw(rt, "first offset")
			m.keep(end, "")
			for range rapid.IntRange(1, 4).Draw(rt, "sessions") {
				for range rapid.IntRange(0, 30).Draw(rt, "records") {
					log = append(log, end)
					end += rapid.SampledFrom([]int64{1, 1, 1, 2, 9, consumergroup.MaxSpan / 40}).Draw(rt, "gap")
				}
				r, x := newTransactionsRig(&m, consumergroup.Options{})
				crash := rapid.Bool().Draw(rt, "crash")
				var settled consumergroup.MemberOffsets
				x.settle = func() (err error) {
					if crash {
						return errTest
					}
					settled, err = r.TransactionOffsets()
					return err
				}
				r.consume(t)
				offset := m.response.GetBlock(requests.topic, requests.id).Offset
				s := r.broker.assignFrom(offset, requests)
				records := map[int64]*modelled{}
				happened := false
				stirred := x.stirred.Load()
				for _, o := range log {
					switch {
					case o < offset || finished[o]:
						records[o] = &modelled{marked: true}
						happened = happened || o >= offset
					default:
						records[o] = &modelled{rests: resting[o]}
					}
					if o >= offset {
						s.claims[requests].produce(o)
					}
				}
				offsets, all := r.delivered()
				var want []int64
				for _, o := range log {
					if !records[o].marked {
						want = append(want, o)
					}
				}
				if !slices.Equal(offsets, want) {
					rt.Fatalf("delivered %d, want %d", offsets, want)
				}
				var leaders []*modelled
				for _, c := range all {
					d := records[c.Record.Offset]
					d.callback = c
					if c.Rested() != d.rests {
						rt.Fatalf("%d rests: %t", c.Record.Offset, c.Rested())
					}
					kind := rapid.IntRange(0, 3).Draw(rt, "kind")
					if d.rests {
						kind = 0
					}
					switch kind {
					case 0: // an answered request that may go on
						d.hold, d.held, d.awaits = c.Await(), true, true
						if d.rests {
							d.hold.Rest()
							d.restWanted = true
						} else {
							leaders = append(leaders, d)
						}
					case 1: // work elsewhere
						d.hold, d.held = c.Hold(), true
						leaders = append(leaders, d)
					case 2: // a further part
						if len(leaders) > 0 {
							d.leader = rapid.SampledFrom(leaders).Draw(rt, "leader")
							c.Follow(d.leader.hold)
						}
					}
				}
				check := func(taken consumergroup.MemberOffsets) {
					if happened != (len(taken.Offsets) == 1) {
						rt.Fatalf("something happened: %t; the snapshot: %v", happened, taken)
					}
					if !happened {
						return
					}
					happened, stirred = false, x.stirred.Load()
					o := taken.Offsets[0]
					finished, resting = map[int64]bool{}, map[int64]bool{}
					of, err := consumergroup.Told(o.Metadata)
					if err != nil {
						rt.Fatal(err)
					}
					for at, d := range records {
						told, rests := of(at)
						told = told || at < o.Offset
						if told != d.toldFinished() || rests != d.rests {
							rt.Fatalf("%d is finished: %t, rests: %t; told at %d: %t, %t", at, d.toldFinished(), d.rests, o.Offset, told, rests)
						}
						finished[at], resting[at] = told, rests
					}
					m.keep(o.Offset, o.Metadata)
				}
				for range rapid.IntRange(0, 60).Draw(rt, "steps") {
					if rapid.IntRange(0, 5).Draw(rt, "snapshot") == 0 {
						taken, err := r.TransactionOffsets()
						if err != nil {
							rt.Fatal(err)
						}
						check(taken)
						continue
					}
					if len(all) == 0 {
						continue
					}
					o := rapid.SampledFrom(all).Draw(rt, "record").Record.Offset
					d := records[o]
					before, rested := d.finished(), d.rests
					switch step := rapid.SampledFrom([]string{"mark", "release", "inject", "result", "rest"}).Draw(rt, "step"); {
					case step == "mark" && !d.marked:
						d.marked, happened = true, true
						d.callback.mark()
					case step == "release" && d.held:
						d.held = false
						d.hold.Release()
					case step == "inject" && d.held && !d.awaits:
						d.held, d.injected = false, true
						d.hold.Inject("key", o)
						d.result = r.next()
					case step == "result" && d.injected:
						d.injected, happened = false, true
						d.result.mark()
					case step == "rest" && d.held && d.awaits:
						d.restWanted = true
						d.hold.Rest()
					}
					switch {
					case d.finished():
						d.rests = false
					case d.marked && d.held && d.restWanted:
						d.rests = true
					}
					happened = happened || d.finished() != before || d.rests != rested
					synctest.Wait()
					if happened && x.stirred.Load() == stirred {
						rt.Fatal("it was not stirred")
					}
				}
				err := r.stop()
				switch {
				case crash:
					if !errors.Is(err, errTest) {
						rt.Fatalf("Consume() = %v", err)
					}
				case err != nil:
					rt.Fatal(err)
				default:
					check(settled)
				}
			}
		})
	})
}
