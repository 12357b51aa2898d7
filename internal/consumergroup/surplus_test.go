package consumergroup_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

var further = partition{"requests", 3}

// passed is a record that is on its way to where the handler gets it.
type passed struct {
	offset int64
	done   func(error)
}

// newSurplusRig is a rig whose handler knows three partitions.
func newSurplusRig() (*rig, chan passed) {
	on := make(chan passed, 100)
	return newRig(consumergroup.Options{
		Partitions:  3,
		MaxInFlight: 10,
		Surplus:     func(r *wire.Record, done func(error)) { on <- passed{r.Offset, done} },
	}), on
}

// Records of partitions that the handler does not know are passed on, and committed in their order when they are where they
// belong.
func TestRecordsOfFurtherPartitionsArePassedOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, on := newSurplusRig()
		r.processor.setup = func(s sarama.ConsumerGroupSession) error {
			if claims := s.Claims()["requests"]; !slices.Equal(claims, []int32{0}) {
				t.Errorf("the handler sees partitions %v", claims)
			}
			return nil
		}
		r.consume(t)
		s := r.broker.assign(requests, further)
		<-s.started
		s.claims[further].produce(5, 6, 7)
		s.claims[requests].produce(1)
		r.next().mark()
		wantCommitted(t, s, 2)
		first, second, third := <-on, <-on, <-on
		second.done(nil)
		third.done(nil)
		synctest.Wait()
		if got := s.committed(further); got != 0 {
			t.Errorf("committed %d before the first record was passed on", got)
		}
		first.done(nil)
		synctest.Wait()
		if got := s.committed(further); got != 8 {
			t.Errorf("committed %d, want 8", got)
		}
		for offset := range int64(20) { // no more than may be in flight
			s.claims[further].produce(8 + offset)
		}
		synctest.Wait()
		if n := len(on); n != 10 {
			t.Errorf("%d records are on their way, want 10", n)
		}
		// The end of the session waits for them.
		s.end(sarama.ErrRebalanceInProgress)
		synctest.Wait()
		for range 10 {
			(<-on).done(nil)
		}
		<-s.released
		if got := s.committed(further); got != 18 {
			t.Errorf("committed %d, want 18", got)
		}
	})
}

func TestRecordThatCannotBePassedOnEndsConsume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, on := newSurplusRig()
		r.consume(t)
		s := r.broker.assign(requests, further)
		<-s.started
		s.claims[further].produce(5)
		(<-on).done(errTest)
		<-r.done
		if !errors.Is(r.err, errTest) {
			t.Errorf("Consume ended with %v", r.err)
		}
		if got := s.committed(further); got != 0 {
			t.Errorf("committed %d", got)
		}
	})
}

// Who rejoins gets a new session at once.
func TestRejoinEndsTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{})
		r.Rejoin() // there is none to end
		r.consume(t)
		for range 3 {
			<-r.broker.joining
			s := r.broker.assign(requests)
			<-s.started
			began := time.Now()
			r.Rejoin()
			<-s.released
			if waited := time.Since(began); waited != 0 {
				t.Errorf("it took %s", waited)
			}
		}
	})
}
