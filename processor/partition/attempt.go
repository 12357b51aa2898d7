package partition

import (
	"log/slog"
	"time"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// attempt is one request for the result of a key. Many attempts may ask for one key. The goroutine of its partition owns it, but for what is
// said otherwise.
type attempt struct {
	observed
	part     *Partition // where it is, or is passed on from
	request  wire.Request
	method   string      // of the request, as package.Service/Method
	record   wire.Record // the first one, as it was on its topic
	delivery *consumergroup.Delivery
	topic    string // that it was read from: a request topic, or the loop topic
	source   source
	replyTo  string // one of the remote's outputs
	key      string // of the table

	// Of a plain event; nil of a request of the contract.
	event *eventRoute
	kept  *keptLetter // why its call failed, where that is more than its status

	// Known once the request is found callable.
	route   *topology.RemoteRoute
	rules   *rules // that have it
	message []byte
	opening []byte  // fingerprint of method and first message
	stream  *stream // nil where one message is the whole request

	came  requestState // changed by comes
	reply replyState   // changed by advance

	// Of one that is made of a request in a row, else nil or "" (waiting.go).
	row    *rowpb.Row
	astray string // why it cannot be called
	lost   string // why it cannot be answered

	place // in its line

	// While it is executed, parked or queued.
	hold     *consumergroup.Hold // of its first record
	deadline *time.Timer         // of a parked or a queued one; nil without a deadline
}

// attemptID names an attempt among those in flight: by its own id, where its writer knows of one, and the correlation id. All
// its records are read from one topic; those that have to go through the loop topic first belong to none before.
type attemptID struct{ topic, correlation, call string }

func (a *attempt) id() attemptID { return attemptID{a.topic, a.request.CorrelationID, a.request.Call} }

// comes changes how much of the request has come.
func (a *attempt) comes(e requestEvent) {
	var err error
	a.came, err = requestTransitions.next(a.came, e)
	a.bug(err)
}

// advance changes how far the reply is.
func (a *attempt) advance(e replyEvent) {
	var err error
	a.reply, err = replyTransitions.next(a.reply, e)
	a.bug(err)
	switch a.reply {
	case replyExecuted, replyDue, replyGiven: // those behind it may begin
		a.part.leaveLine(a)
	}
}

// bug tells of a mistake of this program, unless it is nil. The attempt goes on: others are in the partition, too.
func (a *attempt) bug(err error) {
	if err != nil {
		a.part.repeats(slog.LevelError, "bug", illegalTransition, a, "error", err)
	}
}

const illegalTransition = "a mistake of the program, please report it: an attempt was to leave its state against the rules"

// stopDeadline keeps the deadline of an attempt that waits from passing, and reports whether it was in time.
func (a *attempt) stopDeadline() bool { return a.deadline == nil || a.deadline.Stop() }

// fingerprint tells the request, as far as it is known, from another one under the same key.
func (a *attempt) fingerprint() []byte {
	if a.stream == nil {
		return a.opening
	}
	return a.stream.fingerprint.sum()
}

// partial reports whether the attempt's first record may not be its whole request.
func (a *attempt) partial() bool {
	return a.stream != nil && (a.stream.messages > 1 || a.came == requestOpen || a.came == requestLeft)
}

// startable reports whether all messages of a stream are at hand. Of an attempt that is not executed only the first is kept.
func (a *attempt) startable() bool {
	return a.stream.messages <= 1 && a.came != requestCanceled
}

func (a *attempt) late(now time.Time) bool {
	return !a.request.Deadline.IsZero() && !now.Before(a.request.Deadline)
}
