package consumergroup_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

// produceSized appends a record whose key, value and header have the given number of bytes together.
func (c *claim) produceSized(offset int64, bytes int) {
	c.log <- wire.Record{
		Topic: c.topic, Partition: c.id, Offset: offset,
		Key: []byte("kk"), Value: []byte("vv"),
		Headers: []wire.Header{{Name: "hh", Value: []byte(strings.Repeat("x", bytes-6))}},
	}
}

func (r *rig) wantOffsets(t *testing.T, want ...int64) []*callback {
	t.Helper()
	all := r.take(len(want))
	for i, c := range all {
		if c.Record == nil || c.Record.Offset != want[i] {
			t.Fatalf("delivery %d is record %v, payload %v, want offset %d", i, c.Record, c.Payload, want[i])
		}
	}
	return all
}

func TestMaxInFlightBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxInFlightBytes: 100}).consume(t)
		s := r.broker.assign(requests)
		for offset, bytes := range []int{40, 60, 10, 1000, 90, 11} {
			s.claims[requests].produceSized(int64(offset), bytes)
		}
		first := r.wantOffsets(t, 0, 1) // exactly the bound
		r.quiet(t)
		first[0].mark()
		third := r.wantOffsets(t, 2)[0]
		r.quiet(t)
		first[1].mark()
		r.quiet(t) // 10 and 1000 are too much together
		third.mark()
		large := r.wantOffsets(t, 3)[0] // alone, although it is above the bound
		r.quiet(t)
		large.mark()
		last := r.wantOffsets(t, 4)[0]
		r.quiet(t)
		last.mark()
		r.wantOffsets(t, 5)
		wantCommitted(t, s, 5)
	})
}

// A held record counts until what it stands for is finished.
func TestHeldRecordsCountInBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxInFlightBytes: 10}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produceSized(0, 10)
		s.claims[requests].produceSized(1, 10)
		c := r.wantOffsets(t, 0)[0]
		h := c.Hold()
		c.mark()
		r.quiet(t)
		h.Inject("", "result")
		result := r.next()
		r.quiet(t)
		result.mark()
		r.wantOffsets(t, 1)
	})
}

// A result counts with its record, here and in the budget of the process, until it is acknowledged.
func TestResultsCountInBytes(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]consumergroup.Options{
		"claim":  {MaxInFlightBytes: 100},
		"budget": {Budget: consumergroup.NewBudget(0, 100)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				if o.Budget == nil {
					o.Budget = consumergroup.NewBudget(0, 0)
				}
				r := newRig(o).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produceSized(0, 10)
				c := r.wantOffsets(t, 0)[0]
				h := c.Hold()
				c.mark()
				h.Charge(85) // 5 are left
				s.claims[requests].produceSized(1, 10)
				r.quiet(t)
				h.Inject("", "result")
				result := r.next()
				result.Charge(1000) // what the result makes of it
				if records, bytes := o.Budget.Used(); records != 1 || bytes != 1095 {
					t.Errorf("%d records and %d bytes are in flight, want 1 and 1095", records, bytes)
				}
				result.mark()
				next := r.wantOffsets(t, 1)[0]
				h.Charge(1000) // finished
				if records, bytes := o.Budget.Used(); records != 1 || bytes != 10 {
					t.Errorf("%d records and %d bytes are in flight, want 1 and 10", records, bytes)
				}
				next.Charge(50)
				s.end(sarama.ErrUnknownMemberId)
				<-s.released
				next.Charge(50)
				next.mark()
				if records, bytes := o.Budget.Used(); records != 0 || bytes != 0 {
					t.Errorf("%d records and %d bytes are in flight after the session, want none", records, bytes)
				}
			})
		})
	}
}

func TestSessionEndsWhileARecordWaitsForRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxInFlightBytes: 10}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produceSized(0, 10)
		s.claims[requests].produceSized(1, 10)
		c := r.wantOffsets(t, 0)[0]
		s.end(sarama.ErrRebalanceInProgress)
		synctest.Wait()
		c.mark()
		<-s.released
		r.quiet(t) // it was never let in, so the next owner reads it
		wantCommitted(t, s, 1)
	})
}

func TestBudgetIsSharedByClaimsAndGroups(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		budget func() *consumergroup.Budget // room for three records of 10 bytes
	}{
		{"records", func() *consumergroup.Budget { return consumergroup.NewBudget(3, 0) }},
		{"bytes", func() *consumergroup.Budget { return consumergroup.NewBudget(0, 39) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				budget := test.budget()
				here := newRig(consumergroup.Options{Budget: budget}).consume(t)
				there := newRig(consumergroup.Options{Budget: budget}).consume(t)
				other := partition{requests.topic, 1}
				s := here.broker.assign(requests, other)
				produce := func(c *claim) {
					for offset := range int64(10) {
						c.produceSized(offset, 10)
					}
				}
				produce(s.claims[requests])
				all := here.wantOffsets(t, 0, 1, 2)
				here.quiet(t)

				// Who has nothing in flight gets in, but only with one record.
				produce(s.claims[other])
				one := here.next()
				if one.Record.Partition != other.id {
					t.Fatalf("record of partition %d", one.Record.Partition)
				}
				here.quiet(t)
				elsewhere := there.broker.assign(requests)
				produce(elsewhere.claims[requests])
				two := there.wantOffsets(t, 0)[0]
				there.quiet(t)
				two.mark() // still four: the next takes its place because the claim has nothing else
				two = there.wantOffsets(t, 1)[0]

				// Now five are in flight. Room is not made before fewer than three are.
				all[0].mark()
				all[1].mark()
				here.quiet(t)
				there.quiet(t)
				elsewhere.end(sarama.ErrUnknownMemberId)
				<-elsewhere.released
				here.next()
				here.quiet(t)
				two.mark() // of a session that is over: it makes no room
				here.quiet(t)
			})
		})
	}
}

// Claims take turns at a budget that is far too small, and all get to their end.
func TestBudgetStarvesNoClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const claims, records = 20, 50
		budget := consumergroup.NewBudget(1, 1)
		r := newRig(consumergroup.Options{Budget: budget})
		inFlight := map[int32]int{}
		r.consume(t)
		var all []partition
		for id := range int32(claims) {
			all = append(all, partition{requests.topic, id})
		}
		s := r.broker.assign(all...)
		for _, p := range all {
			for offset := range int64(records) {
				s.claims[p].produce(offset)
			}
		}
		for range claims * records {
			c := r.next()
			if inFlight[c.Record.Partition]++; inFlight[c.Record.Partition] > 1 {
				t.Fatal("a claim has two records in flight while the budget is used up")
			}
			inFlight[c.Record.Partition]--
			c.mark()
		}
		synctest.Wait()
		for _, p := range all {
			if got := s.committed(p); got != records {
				t.Errorf("%v: committed %d", p, got)
			}
		}
	})
}

// What is in flight when a claim ends is given back, and only once, though it is finished later.
func TestBudgetAfterASession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{Budget: consumergroup.NewBudget(3, 0)}).consume(t)
		for range 3 {
			s := r.broker.assign(requests)
			s.claims[requests].produce(0, 1, 2, 3)
			all := r.wantOffsets(t, 0, 1, 2)
			r.quiet(t)
			s.end(sarama.ErrUnknownMemberId) // no drain
			<-s.released
			all[0].mark()
		}
	})
}
