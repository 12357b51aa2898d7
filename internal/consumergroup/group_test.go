package consumergroup_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
)

func TestConsumeEnds(t *testing.T) {
	t.Parallel()
	failing := func(r *rig) { r.processor.setup = func(sarama.ConsumerGroupSession) error { return errTest } }
	tests := []struct {
		name    string
		prepare func(r *rig)
		act     func(r *rig)
		want    error
	}{
		{"when stopped before it joined", nil, func(r *rig) { r.cancel(nil) }, nil},
		{"when stopped in a session", nil, func(r *rig) { <-r.broker.assign(requests).started; r.cancel(nil) }, nil},
		{"when stopped with a cause", nil, func(r *rig) { r.cancel(errTest) }, nil},
		{"when stopped between two tries", nil, func(r *rig) {
			r.broker.fail(io.EOF)
			synctest.Wait()
			r.cancel(nil)
		}, nil},
		{"when closed", nil, func(r *rig) { _ = r.Close() }, sarama.ErrClosedConsumerGroup},
		{"when closed in a session", nil, func(r *rig) { <-r.broker.assign(requests).started; _ = r.Close() }, sarama.ErrClosedConsumerGroup},
		{"when a topic is gone", nil, func(r *rig) {
			s := r.broker.assign(requests)
			<-s.started
			r.broker.fail(fmt.Errorf("topic: %w", sarama.ErrUnknownTopicOrPartition))
			s.end(sarama.ErrRebalanceInProgress)
		}, sarama.ErrUnknownTopicOrPartition},
		{"with an error of Setup", failing, func(r *rig) { r.broker.assign(requests) }, errTest},
		{
			"with an error of Cleanup",
			func(r *rig) { r.processor.cleanup = func() error { return errTest } },
			func(r *rig) { r.broker.assign(requests).end(sarama.ErrRebalanceInProgress) },
			errTest,
		},
		{
			"with an error of Cleanup when stopped",
			func(r *rig) { r.processor.cleanup = func() error { return errTest } },
			func(r *rig) { <-r.broker.assign(requests).started; r.cancel(nil) },
			errTest,
		},
		{
			"with the error of Setup rather than of Cleanup",
			func(r *rig) { failing(r); r.processor.cleanup = func() error { return io.EOF } },
			func(r *rig) { r.broker.assign(requests) },
			errTest,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{})
				if test.prepare != nil {
					test.prepare(r)
				}
				r.consume(t)
				test.act(r)
				<-r.done
				if !errors.Is(r.err, test.want) || test.want == nil && r.err != nil {
					t.Errorf("Consume() = %v, want %v", r.err, test.want)
				}
			})
		})
	}
}

// A rebalance during Setup is goka's recovery interrupted; it begins again with the next session.
func TestSetupAbortedBySessionEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{})
		r.processor.setup = func(s sarama.ConsumerGroupSession) error {
			<-s.Context().Done()
			return fmt.Errorf("recovery: %w", s.Context().Err())
		}
		r.consume(t)
		first := r.broker.assign(requests)
		first.end(sarama.ErrRebalanceInProgress)
		<-first.released

		r.processor.setup = nil
		second := r.broker.assign(requests)
		second.claims[requests].produce(0)
		r.next().mark()
		wantCommitted(t, second, 1)
	})
}

func TestConsumeTriesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		begun := time.Now()
		var joins []time.Duration // since the call before
		r := newRig(consumergroup.Options{}).consume(t)
		joined := func() {
			<-r.broker.joining
			joins = append(joins, time.Since(begun))
			begun = time.Now()
		}
		joined()
		for range 7 {
			r.broker.fail(sarama.ErrOutOfBrokers)
			joined()
		}
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		r.next().mark()
		wantCommitted(t, s, 1)

		want := []time.Duration{
			0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond,
			1600 * time.Millisecond, 3200 * time.Millisecond, 5 * time.Second,
		}
		if !slices.Equal(joins, want) {
			t.Errorf("joined after %v, want %v", joins, want)
		}

		// A session that lasted ends the trouble: the next pause is a short one.
		<-time.After(2 * time.Second)
		s.end(sarama.ErrRebalanceInProgress)
		joined()
		r.broker.fail(sarama.ErrOutOfBrokers)
		joined()
		if got := joins[len(joins)-1]; got != 100*time.Millisecond {
			t.Errorf("joined after %s", got)
		}
	})
}

// A session that was a real one is followed by the next without a pause; goka would sleep 5s. A session that ends
// at once is not: it would end at once again.
func TestRejoin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		lasted time.Duration
		want   time.Duration
	}{
		{"after a session", 2 * time.Second, 0},
		{"after a session that ended at once", 0, 100 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{}).consume(t)
				<-r.broker.joining
				s := r.broker.assign(requests)
				<-s.started
				<-time.After(test.lasted)
				ended := time.Now()
				s.end(sarama.ErrRebalanceInProgress)
				<-r.broker.joining
				if got := time.Since(ended); got != test.want {
					t.Errorf("joined again after %s, want %s", got, test.want)
				}
			})
		})
	}
}

// The error of one claim is sarama's to report; it ends the session, not Consume.
func TestSessionsFollowEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		for i := range int64(3) {
			s := r.broker.assign(requests)
			s.claims[requests].produce(i)
			r.next().mark()
			wantCommitted(t, s, i+1)
			s.end(sarama.ErrRebalanceInProgress)
			<-s.released
		}
		if err := r.stop(); err != nil {
			t.Errorf("Consume() = %v", err)
		}
	})
}
