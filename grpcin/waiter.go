package grpcin

import (
	"bytes"
	"errors"
	"slices"

	"kafkagrpc/internal/wire"
)

var errNoRoom = errors.New("the caller has not taken enough replies yet")

// waiter is one attempt of a call, waiting for its replies. What Calls.mu guards is empty again after forget.
type waiter struct {
	contract      wire.Contract
	replyTo       string
	correlationID string
	call          string // id of the attempt
	single        bool   // the method answers with one message

	ready chan struct{} // has room for one token: there is something to take

	// Guarded by Calls.mu.
	message    wire.Record // of a single one: the latest, until the end has come
	hasMessage bool
	kept       bool          // a reply was held, so that its headers are known
	replies    []wire.Record // in order, not taken yet; of a single one: the end
	bytes      int           // of replies
	left       bool          // the message is not held, only where it is
	large      int64         // what the large reply that is held, or that there is room for, counts
	needs      int64         // what the one counts that there was no room for
	taken      bool          // the caller is given the large reply
	missed     []span        // what comes after replies and must be read from Kafka; of each partition at most one
}

// span is a part of a partition of the reply topic, from one reply of the call to behind another one.
type span struct {
	partition int32
	from, to  int64
}

func newWaiter(contract wire.Contract, r wire.Request, single bool) *waiter {
	return &waiter{
		contract: contract, replyTo: r.ReplyTo, correlationID: r.CorrelationID, call: r.Call, single: single,
		ready: make(chan struct{}, 1),
	}
}

// matches is what the live feed finds out by looking the call up.
func (w *waiter) matches(r wire.Record) bool {
	id, call := w.contract.Names(r.Headers)
	return string(id) == w.correlationID && (len(call) == 0 || string(call) == w.call)
}

// miss leaves a reply on Kafka. Replies of one call are in one partition, unless partitions were added meanwhile.
func (w *waiter) miss(r wire.Record) {
	for i := range w.missed {
		if w.missed[i].partition == r.Partition {
			w.missed[i].to = r.Offset + 1
			return
		}
	}
	w.missed = append(w.missed, span{r.Partition, r.Offset, r.Offset + 1})
}

func (w *waiter) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// keep copies what will be used of a reply: its bytes share memory with the many records that came with it, and
// a slow caller must hold its own alone. Between the first reply and the end, headers tell nothing new.
func (w *waiter) keep(r wire.Record) wire.Record {
	needed := !w.kept || r.Value == nil
	w.kept = true
	k := wire.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Value: bytes.Clone(r.Value)}
	if needed {
		k.Headers = slices.Clone(r.Headers)
		for i := range k.Headers {
			k.Headers[i].Value = bytes.Clone(k.Headers[i].Value)
		}
	}
	return k
}

// sizeOf is what a reply counts for while it is held. Its headers are not all kept, but those of one reply are.
func sizeOf(r wire.Record) int {
	const overhead = 128 // of the record itself
	return overhead + len(r.Value)
}
