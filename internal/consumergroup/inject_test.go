package consumergroup_test

import (
	"testing"
	"testing/synctest"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
)

func TestInjectOnNobodysBehalf(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{MaxInFlight: 1}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		record := r.next()
		// Also where the bound of records is reached: it is not one.
		if !r.Inject(requests.topic, requests.id, "key", "work") {
			t.Fatal("Inject() = false")
		}
		work := r.next()
		if work.Record != nil || work.Payload != "work" || work.Key() != "key" {
			t.Errorf("injected %v, payload %v, key %q", work.Record, work.Payload, work.Key())
		}
		work.Then("key", "acknowledged")
		r.quiet(t)
		work.mark()
		next := r.next()
		if next.Payload != "acknowledged" {
			t.Errorf("then came %v", next.Payload)
		}
		next.mark()
		wantCommitted(t, s, 0) // nothing of this is a record
		record.mark()
		wantCommitted(t, s, 1)
	})
}

func TestInjectWhereNothingIsOwned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		if r.Inject(requests.topic, requests.id, "k", 0) {
			t.Error("accepted before the first session")
		}
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		hold := r.next()
		if r.Inject(requests.topic, requests.id+1, "k", 0) || r.Inject("other", requests.id, "k", 0) {
			t.Error("accepted for a partition of somebody else")
		}
		s.end(sarama.ErrRebalanceInProgress)
		synctest.Wait()
		if r.Inject(requests.topic, requests.id, "k", 0) {
			t.Error("accepted while the partition is drained")
		}
		hold.mark()
		<-s.released
		if r.Inject(requests.topic, requests.id, "k", 0) {
			t.Error("accepted after the session")
		}
		r.quiet(t)
	})
}

// What was accepted before is still handled, as the work it does is written by then.
func TestInjectedWorkIsDrained(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		r.next().mark()
		if !r.Inject(requests.topic, requests.id, "k", "work") {
			t.Fatal("Inject() = false")
		}
		work := r.next()
		s.end(sarama.ErrRebalanceInProgress)
		if over(s.released) {
			t.Fatal("the session ended before the work was acknowledged")
		}
		work.mark()
		<-s.released
	})
}
