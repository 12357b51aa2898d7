package grpcin

import (
	"bytes"
	"errors"
	"slices"

	"kafkagrpc/wire"
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
	have       int           // messages that were held
	early      *wire.Record  // the end, which came before some of its messages
	ended      bool          // the end was held
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

// follows reports whether a reply is the next one of its call. A broker or a processor that was killed leaves a part of a reply
// behind, and one that Kafka has refused lacks messages; it is written again from its beginning then. So what has come already is
// left out, and so is what comes too early. But an end that comes too early counts as soon as its messages are there.
func (w *waiter) follows(r wire.Record) bool {
	order := wire.NumberOf(r.Headers).After(w.have)
	if r.Value != nil {
		return order == 0
	}
	if order > 0 {
		early := w.keep(r)
		w.early = &early
	}
	return order <= 0
}

// held counts a reply that is held, and answers the end where that was waiting for it.
func (w *waiter) held(r wire.Record) (end wire.Record, ok bool) {
	if r.Value == nil {
		w.ended = true
		return wire.Record{}, false
	}
	w.have++
	if w.early == nil || wire.NumberOf(w.early.Headers).After(w.have) > 0 {
		return wire.Record{}, false
	}
	w.ended = true
	return *w.early, true
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
	w.kept = w.kept || r.Value != nil
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
