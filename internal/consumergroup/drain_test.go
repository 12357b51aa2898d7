package consumergroup_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
)

func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1)
		all := r.take(2)
		slow, chained := all[0].Hold(), all[1].Hold()
		for _, c := range all {
			c.mark()
		}
		wantCommitted(t, s, 0)

		s.end(sarama.ErrRebalanceInProgress)
		r.quiet(t)
		s.claims[requests].produce(2, 3)
		r.quiet(t) // reads no more

		if !chained.Inject("k", "row") {
			t.Fatal("no injection while draining")
		}
		row := r.next()
		row.Then("k", "reply")
		row.mark()
		reply := r.next()
		if over(row.session.Context().Done()) || over(row.Context().Done()) || over(s.released) {
			t.Fatal("the session ended before its records were finished")
		}
		reply.mark()
		if over(row.session.Context().Done()) {
			t.Fatal("the session ended before the last record was finished")
		}
		slow.Release()
		if !over(row.session.Context().Done()) || !over(row.Context().Done()) || !over(s.released) {
			t.Fatal("the session goes on although all is finished")
		}
		wantCommitted(t, s, 2)
		r.quiet(t)
	})
}

// A claim with nothing in flight does not wait for the drain time, nor for the other claims.
func TestDrainOfIdleClaims(t *testing.T) {
	bubble(t, func(t *testing.T) {
		begun := time.Now()
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests, partition{"requests", 1})
		s.claims[requests].produce(0)
		r.next().mark()
		wantCommitted(t, s, 1)
		s.end(sarama.ErrRebalanceInProgress)
		<-s.released
		if took := time.Since(begun); took != 0 {
			t.Errorf("ended after %s of virtual time", took)
		}
	})
}

// What a claim still gets depends on who owns the partition at the end of the session.
func TestDrainTime(t *testing.T) {
	t.Parallel()
	const drain, sessionTimeout = 8 * time.Second, 6 * time.Second
	end := func(cause error) func(r *rig, s *session) {
		return func(_ *rig, s *session) { s.end(cause) }
	}
	tests := []struct {
		name string
		end  func(r *rig, s *session)
		want time.Duration
	}{
		{"rebalance", end(sarama.ErrRebalanceInProgress), drain},
		{"new partitions", end(sarama.ErrSessionPartitionCountChanged), drain},
		{"another claim returned", end(sarama.ErrSessionConsumeClaimExited), drain},
		{"stop", func(r *rig, _ *session) { r.cancel(nil) }, drain},
		{"stop with a cause", func(r *rig, _ *session) { r.cancel(errTest) }, drain},
		{"stop with a cause of Kafka's", func(r *rig, _ *session) { r.cancel(sarama.ErrUnknownMemberId) }, drain},
		{"close", func(r *rig, _ *session) { _ = r.Close() }, drain},
		{"partition cannot be read", func(_ *rig, s *session) { close(s.claims[requests].log) }, drain},
		{"no heartbeat", end(sarama.ErrSessionHeartbeatFailed), sessionTimeout / 2},
		{"no coordinator", end(fmt.Errorf("heartbeat: %w", io.EOF)), sessionTimeout / 2},
		{"unknown member", end(sarama.ErrUnknownMemberId), 0},
		{"unknown member, wrapped", end(fmt.Errorf("heartbeat: %w", sarama.ErrUnknownMemberId)), 0},
		{"old generation", end(sarama.ErrIllegalGeneration), 0},
		{"fenced instance", end(sarama.ErrFencedInstancedId), 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{Drain: drain, SessionTimeout: sessionTimeout}).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0, 1, 2)
				all := r.take(3)
				var holds []*consumergroup.Hold
				for _, c := range all {
					holds = append(holds, c.Hold())
				}
				all[0].mark()

				begun := time.Now()
				test.end(r, s)
				<-all[0].Context().Done()
				if took := time.Since(begun); took != test.want {
					t.Errorf("the claim was drained for %s, want %s", took, test.want)
				}
				<-s.released
				if !over(all[0].session.Context().Done()) {
					t.Error("the handler's session goes on")
				}
				// Nothing that is cut short finishes its record, whatever it does.
				if holds[0].Inject("k", "late") {
					t.Error("an injection was accepted")
				}
				for _, h := range holds {
					h.Release()
				}
				all[2].Then("k", "late")
				all[2].mark()
				r.quiet(t)
				wantCommitted(t, s, 0)
			})
		})
	}
}

// Two claims drain at the same time, not one after the other, and each until it is done.
func TestDrainOfTwoPartitions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		other := partition{"requests", 1}
		r := newRig(consumergroup.Options{Drain: 8 * time.Second}).consume(t)
		s := r.broker.assign(requests, other)
		s.claims[requests].produce(0)
		stuck := r.next()
		s.claims[other].produce(0)
		finishing := r.next()

		begun := time.Now()
		s.end(sarama.ErrRebalanceInProgress)
		finishing.mark()
		if !over(finishing.Context().Done()) || over(stuck.Context().Done()) {
			t.Error("a claim does not end when it is drained")
		}
		if over(finishing.session.Context().Done()) {
			t.Error("the session ended before the last claim was drained")
		}
		<-s.released
		if took := time.Since(begun); took != 8*time.Second {
			t.Errorf("drained for %s", took)
		}
		if s.committed(requests) != 0 || s.committed(other) != 1 {
			t.Errorf("committed %d and %d", s.committed(requests), s.committed(other))
		}
	})
}

// What was acknowledged counts also when it is marked after the drain time: goka waits for its producer then.
func TestMarkAfterDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{})
		cleaning, cleaned := make(chan struct{}), make(chan struct{})
		r.processor.cleanup = func() error {
			close(cleaning)
			<-cleaned
			return nil
		}
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1)
		all := r.take(2)
		all[0].Hold().Inject("k", "result")
		all[0].mark()
		result := r.next()
		s.end(sarama.ErrRebalanceInProgress)
		<-cleaning
		result.mark()
		all[1].mark()
		wantCommitted(t, s, 2)
		close(cleaned)
		<-s.released
	})
}

// A lost partition delivers nothing any more, also nothing that was injected before.
func TestLostPartitionDeliversNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{})
		gate := make(chan struct{})
		var injected int
		r.processor.callback = func(c *callback) {
			if c.Record == nil {
				injected++
				return
			}
			for range 100 {
				c.Hold().Inject("k", "result")
			}
			r.got <- c
			<-gate
		}
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		r.quiet(t) // one injection is at the partition's door, 99 are in the claim
		s.end(sarama.ErrUnknownMemberId)
		<-c.Context().Done()
		close(gate)
		<-s.released
		if injected > 1 {
			t.Errorf("%d injections were delivered", injected)
		}
		wantCommitted(t, s, 0)
	})
}

// The drain time is also over for a handler that is stuck in a callback and accepts nothing.
func TestDrainOfStuckHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{Drain: 8 * time.Second})
		gate := make(chan struct{})
		r.processor.callback = func(c *callback) {
			if c.Record != nil {
				c.Hold().Inject("k", 1)
				c.Hold().Inject("k", 2)
			}
			r.got <- c
			<-gate
		}
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		r.quiet(t)
		begun := time.Now()
		s.end(sarama.ErrRebalanceInProgress)
		<-c.Context().Done()
		if took := time.Since(begun); took != 8*time.Second {
			t.Errorf("drained for %s", took)
		}
		close(gate)
		<-s.released
		wantCommitted(t, s, 0)
	})
}

// A record that the handler has not accepted when the session ends belongs to the next owner.
func TestRecordOnItsWayIsTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{})
		gate := make(chan struct{})
		r.processor.callback = func(c *callback) {
			r.got <- c
			<-gate
		}
		r.consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0, 1, 2, 3)
		r.next()
		r.quiet(t) // 0 is in its callback, the others wait for their turn
		begun := time.Now()
		s.end(sarama.ErrRebalanceInProgress)
		r.quiet(t)
		gate <- struct{}{}
		<-s.released
		if took := time.Since(begun); took != 0 {
			t.Errorf("drained for %s although nothing was left", took)
		}
		wantCommitted(t, s, 1)

		s = r.broker.assign(requests)
		s.claims[requests].produce(1, 2, 3)
		close(gate)
		for want := range int64(3) {
			if c := r.next(); c.Record.Offset != want+1 {
				t.Fatalf("offset %d, want %d", c.Record.Offset, want+1)
			}
		}
		wantCommitted(t, s, 4)
	})
}

// A handler that gives up (goka does when a callback fails) ends its claim at once; the others are drained.
func TestHandlerGone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		stuck   bool // in a callback, while more is handed over
		records []int64
		inject  int
	}{
		{"waiting for records", false, []int64{0, 1}, 0},
		{"handing over a record", true, []int64{0, 1, 2, 3}, 0},
		{"handing over an injection", true, []int64{0}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{})
				gate := make(chan struct{})
				if test.stuck {
					r.processor.callback = func(c *callback) {
						c.later = true
						r.got <- c
						<-gate
					}
				}
				r.consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(test.records...)
				c := r.next()
				h := c.Hold()
				for i := range test.inject {
					c.Hold().Inject("k", i)
				}
				synctest.Wait()
				close(r.processor.stop)
				<-c.Context().Done()
				if h.Inject("k", "late") {
					t.Error("an injection was accepted")
				}
				close(gate)
				<-s.released
				if cause := context.Cause(s.ctx); cause != sarama.ErrSessionConsumeClaimExited {
					t.Errorf("the session ended with %v", cause)
				}
				wantCommitted(t, s, 0)
			})
		})
	}
}
