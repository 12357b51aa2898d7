package processor_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// queueOf are requests under some record keys, and what the service is to get of each, in order.
func queueOf(order string, keys, calls int) (records []wire.Record, want map[string][]string, keyOf func(string) string) {
	keyOf = firstPart
	if order == topology.OrderPartition {
		keyOf = func(string) string { return "all" }
	}
	want = map[string][]string{}
	for n := range calls {
		for k := range keys {
			text := fmt.Sprintf("key-%d/%02d", k, n)
			records = append(records, under([]byte(firstPart(text)), attempt(text, text), text)...)
			want[keyOf(text)] = append(want[keyOf(text)], text)
		}
	}
	return records, want, keyOf
}

func TestFollowersOfAWaitingRequestWaitInRows(t *testing.T) {
	t.Parallel()
	for _, order := range []string{topology.OrderKey, topology.OrderPartition} {
		for name, restart := range map[string]func(b *testbench, i *instance) *instance{
			"": func(_ *testbench, i *instance) *instance { return i },
			", after a restart": func(b *testbench, i *instance) *instance {
				i.stop()
				return b.start(i.dir)
			},
			", without the local store": func(b *testbench, i *instance) *instance {
				i.stop()
				b.evict(i.dir)
				return b.start(b.t.TempDir())
			},
		} {
			t.Run(order+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, 1, parking, ordered(order))
				i := b.started()
				var up atomic.Bool
				records, want, keyOf := queueOf(order, 6, 15)
				s := b.sequenced(keyOf, func(context.Context, string) error {
					if !up.Load() {
						return errDown
					}
					return nil
				})
				b.produce(records...)
				b.committed() // nothing is answered
				if got := b.log(replies); len(got) != 0 {
					t.Fatalf("replies: %v", describe(got))
				}
				all := len(records) / 2
				b.eventually("all wait in rows", func() bool { return len(b.waitingRows()) == all })
				for key := range want {
					if got := s.has(key); got != 1 {
						t.Errorf("%d requests of %s were called, want the first one alone", got, key)
					}
				}
				behind := 0
				for _, row := range b.waitingRows() {
					if row.Waiting.IsBehind {
						behind++
					}
				}
				if behind != all-len(want) {
					t.Errorf("%d rows are behind others, want %d", behind, all-len(want))
				}
				i = restart(b, i)
				b.ready(i)
				up.Store(true)
				for id, got := range b.results(all) {
					got.check(t, codes.OK, "", id)
				}
				s.want(t, want)
				b.eventually("no row has a request any more", func() bool {
					for _, value := range b.latest() {
						if row, err := rowpb.Decode(value); err != nil || row.Waiting != nil {
							return false
						}
					}
					return true
				})
				// The lines are as any others again.
				more := under([]byte("key-0"), attempt("more", "more"), "key-0/more")
				b.produce(more...)
				b.results(1)["more"].check(t, codes.OK, "", "key-0/more")
				b.committed()
			})
		}
	}
}

// One that has no room in a row, or is a stream, waits in memory for the rows before it, and what comes later behind it.
func TestFollowersWithoutARowKeepTheirPlace(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking, ordered(topology.OrderKey))
	_, scrape := b.watched()
	b.started()
	up := b.service.down()
	key := []byte("key")
	send := func(id string) { b.produce(under(key, attempt(id, id), id)...) }
	send("1")
	send("2")
	b.committed()
	stream := whole(bidi("stream", "stream"), "s")
	for n := range stream {
		stream[n].Key = key
	}
	b.produce(stream...)
	send("3")
	b.has(scrape, queuedRequests(2))
	up()
	got := b.results(4)
	for _, id := range []string{"1", "2", "3"} {
		got[id].check(t, codes.OK, "", "re: "+id)
	}
	got["stream"].check(t, codes.OK, "", "s")
	var calls []string
	for _, c := range b.service.received() {
		if name := c.message; len(calls) == 0 || calls[len(calls)-1] != name {
			calls = append(calls, name)
		}
	}
	if want := "[1 2  3]"; fmt.Sprint(calls) != want { // the stream has no message to be told by
		t.Errorf("the calls were %v, want %v", calls, want)
	}
	b.committed()
}

// A row that is given up, or whose deadline passes, lets those behind it go on.
func TestFollowersOfAWaitingRequestThatIsGivenUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking, ordered(topology.OrderKey), func(r *topology.Remote) {
		r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = time.Hour, time.Hour, 1000*time.Hour
	})
	i := b.started()
	up := b.service.down()
	key := []byte("key")
	b.produce(under(key, attempt("1", "1"), "1")...)
	late := attempt("2", "2")
	late.Deadline = soon()
	b.produce(under(key, late, "2")...)
	b.produce(under(key, attempt("3", "3"), "3")...)
	b.produce(under(key, attempt("4", "4"), "4")...)
	b.committed()
	if got := b.results(1)["2"]; got.Status != codes.DeadlineExceeded {
		t.Errorf("%v", got)
	}
	if err := i.RetryNow(t.Context(), request("3").CorrelationID, 0); err == nil {
		t.Error("one that is behind another one is retried")
	}
	b.wantExecuted("1")
	up()
	if err := i.GiveUp(t.Context(), request("1").CorrelationID, 0); err != nil {
		t.Fatal(err)
	}
	got, letters := map[string]result{}, 0
	for c := newCollector(t); len(got) < 3 || letters == 0; {
		r := b.read(1)[0]
		if r.Topic != replies {
			letters++
		} else if id, done, ok := c.add(r); ok {
			got[id] = done
		}
	}
	got["1"].check(t, codes.Unavailable, "down for repair")
	for _, id := range []string{"3", "4"} {
		got[id].check(t, codes.OK, "", "re: "+id)
	}
	b.wantExecuted("1", "3", "4")
}

// Whenever the program is killed while lines of rows are worked off, no key is called out of order but again.
func TestLinesOfWaitingRowsSurviveKills(t *testing.T) {
	t.Parallel()
	for _, order := range []string{topology.OrderKey, topology.OrderPartition} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, parking, ordered(order), func(r *topology.Remote) { r.Processing.RetryMaxElapsed = time.Hour })
			var down atomic.Bool
			down.Store(true)
			records, want, keyOf := queueOf(order, 8, 12)
			var calls atomic.Int32
			s := b.sequenced(keyOf, func(context.Context, string) error {
				if down.Load() || calls.Add(1)%3 == 0 {
					return errDown
				}
				return nil
			})
			dir := t.TempDir()
			c := b.startChildIn(t, dir, 0)
			c.says("the processor is ready")
			b.produce(records...)
			b.committed()
			down.Store(false)
			for range 4 {
				b.service.wait(t, 15)
				c.kill()
				c = b.startChildIn(t, dir, 0)
			}
			for id, all := range b.answersTo(len(records) / 2) {
				for _, got := range all {
					if got.Status != codes.OK {
						t.Errorf("%s: %v", id, got)
					}
				}
			}
			s.mu.Lock()
			s.problems = nil // a call of a process that was killed goes on for a moment
			s.mu.Unlock()
			s.want(t, want)
		})
	}
}

// A duplicate that waits in the row of a request has the place in the line that is its own, when the request leaves the row: what came between them is called first.
func TestDuplicateInTheRowOfALateRequestKeepsItsPlace(t *testing.T) {
	t.Parallel()
	for _, order := range []string{topology.OrderKey, topology.OrderPartition} {
		for name, restart := range map[string]bool{"": false, ", after a restart": true} {
			t.Run(order+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, 1, parking, ordered(order), func(r *topology.Remote) {
					r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = time.Hour, time.Hour, 1000*time.Hour
				})
				i := b.started()
				up := b.service.down()
				send := func(r wire.Request, text string) { b.produce(under([]byte("key"), r, text)...) }
				late := attempt("2", "2")
				late.Deadline = soon()
				send(attempt("1", "1"), "1")
				send(late, "2")
				send(attempt("3", "3"), "3")
				send(attempt("2", "again"), "2")
				send(attempt("4", "4"), "4")
				b.committed()
				if got := b.results(1)["2"]; got.Status != codes.DeadlineExceeded {
					t.Errorf("%v", got)
				}
				if restart {
					i.stop()
					i = b.start(i.dir)
					b.ready(i)
				}
				up()
				if err := i.RetryNow(t.Context(), request("1").CorrelationID, 0); err != nil {
					t.Fatal(err)
				}
				got := b.results(4)
				for call, message := range map[string]string{"1": "1", "3": "3", "again": "2", "4": "4"} {
					got[call].check(t, codes.OK, "", "re: "+message)
				}
				var calls []string
				for _, c := range b.service.received() {
					calls = append(calls, c.message)
				}
				if want := "[1 1 3 2 4]"; fmt.Sprint(calls) != want {
					t.Errorf("the calls were %v, want %s", calls, want)
				}
				b.committed()
			})
		}
	}
}
