package consumergroup_test

import (
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
)

// coordinator answers heartbeats as the test says.
type coordinator struct {
	mu     sync.Mutex
	err    error
	silent bool // the answer to a heartbeat takes an hour
	beats  int
}

func (c *coordinator) heartbeat(member string, generation int32) error {
	c.mu.Lock()
	c.beats++
	err, silent := c.err, c.silent
	c.mu.Unlock()
	if member != testMember || generation != testGeneration {
		return errors.New("heartbeat of somebody else")
	}
	if silent {
		<-time.After(2 * time.Second)
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *coordinator) say(err error, silent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.silent = err, silent
}

func leased(c *coordinator) consumergroup.Options {
	return consumergroup.Options{SessionTimeout: 10 * time.Second, Heartbeat: c.heartbeat}
}

// When no heartbeat is answered for the session time-out, nothing is delivered any more though sarama does not know yet.
func TestWithoutHeartbeatsNothingIsDelivered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		silent bool
		within time.Duration
	}{
		"unreachable":         {err: io.EOF, within: 10 * time.Second},
		"silent":              {silent: true, within: 10 * time.Second},
		"says that it is out": {err: sarama.ErrUnknownMemberId, within: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var coordinator coordinator
				r := newRig(leased(&coordinator)).consume(t)
				s := r.broker.assign(requests)
				s.claims[requests].produce(0)
				work := r.next()
				h := work.Hold()
				work.mark()
				<-time.After(time.Minute)
				if r.Stalled() || coordinator.beats < 30 {
					t.Fatalf("stalled: %v after %d heartbeats that were answered", r.Stalled(), coordinator.beats)
				}
				coordinator.say(c.err, c.silent)
				began := time.Now()
				for !r.Stalled() {
					<-time.After(50 * time.Millisecond)
				}
				if d := time.Since(began); d > c.within {
					t.Errorf("stalled after %v, want it within %v", d, c.within)
				}
				h.Inject("", "result")
				s.claims[requests].produce(1)
				<-s.released
				<-r.done
				if !errors.Is(r.err, consumergroup.ErrOutOfTouch) {
					t.Errorf("Consume() = %v", r.err)
				}
				r.quiet(t)
				wantCommitted(t, s, 0)
			})
		})
	}
}

// Heartbeats that fail for less than the session time-out do no harm.
func TestShortSilenceDoesNoHarm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var coordinator coordinator
		r := newRig(leased(&coordinator)).consume(t)
		s := r.broker.assign(requests)
		<-s.started
		for range 3 {
			coordinator.say(io.EOF, false)
			<-time.After(8 * time.Second)
			coordinator.say(nil, false)
			<-time.After(2 * time.Second)
		}
		s.claims[requests].produce(0)
		r.next().mark()
		synctest.Wait()
		if r.Stalled() {
			t.Error("stalled")
		}
		wantCommitted(t, s, 1)
	})
}

// Between two sessions there is no lease: joining may take long.
func TestNoLeaseBetweenSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var coordinator coordinator
		r := newRig(leased(&coordinator)).consume(t)
		s := r.broker.assign(requests)
		s.end(sarama.ErrRebalanceInProgress)
		<-s.released
		<-time.After(time.Hour)
		if r.Stalled() {
			t.Error("stalled")
		}
		s = r.broker.assign(requests)
		s.claims[requests].produce(0)
		r.next().mark()
		synctest.Wait()
		wantCommitted(t, s, 1)
	})
}
