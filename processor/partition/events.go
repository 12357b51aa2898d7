package partition

import (
	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcout"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/processor/rowpb"
)

// event is what is injected into the claim of a partition, to happen in a turn of its own.
type event interface{ happen(t *turn) }

// replyBegins comes before the first message of a reply that flows: its row is written as open.
type replyBegins struct {
	key          string
	row          *rowpb.Row
	acknowledged chan struct{}
}

func (e replyBegins) happen(t *turn) { t.setRow(e.key, e.row) }

// Acknowledged implements consumergroup.Acknowledged.
func (e replyBegins) Acknowledged() { close(e.acknowledged) }

// messageFlows is for each message of a reply that flows.
type messageFlows struct {
	record outbox.Record
	to     string
	window *unacked
	bytes  int
}

func (e messageFlows) happen(t *turn) { t.send(e.to, e.record) }

// Acknowledged implements consumergroup.Acknowledged.
func (e messageFlows) Acknowledged() { e.window.give(e.bytes) }

// callReturns comes when a call has ended: its row is written.
type callReturns struct {
	call   *call
	result grpcout.Result
	reply  *flowedReply // of a stream, else nil
	cause  *ending      // nil: it ended by itself
}

func (e callReturns) happen(t *turn) { t.complete(e) }

// answer is what attempts are told once the row of a result is acknowledged, or at once where there is none.
type answer struct {
	attempt *attempt // whose delivery it is
	outcome outcome
	letter  *keptLetter // made beside the answer
	lost    error       // there is no topic to answer on: a dead letter is all that the attempt gets

	parked []*attempt // get shared, by deliveries of their own
	shared outcome
}

func (e answer) happen(t *turn) { t.give(e) }

// deadlinePasses comes to a parked or a queued attempt.
type deadlinePasses struct{ attempt *attempt }

func (e deadlinePasses) happen(t *turn) {
	o := tooLate
	if !t.unpark(e.attempt) && t.unqueue(e.attempt) {
		o.message = tooLateInLine
	}
	t.settle(e.attempt, o)
}

// streamIdles comes when neither side of a stream said anything for processing.stream-idle.
type streamIdles struct{ attempt *attempt }

func (e streamIdles) happen(t *turn) {
	if t.happens(e.attempt, silenceLasts, idle(e.attempt.stream.limit)) == giveUp {
		t.letGo(e.attempt)
	}
}

// streamBlocks comes when a stream keeps too many offsets of its partition back.
type streamBlocks struct{ attempt *attempt }

func (e streamBlocks) happen(t *turn) {
	t.happens(e.attempt, backlogGrows, errBlocking)
	t.letGo(e.attempt)
}

// happens does what the state of an attempt asks for when something happens to it, and answers what that was. cause is the answer where
// the attempt is ended for it.
func (t *turn) happens(a *attempt, h happening, cause *ending) reaction {
	r := react(a.came, a.reply, h)
	switch r {
	case endCall:
		t.calls[a.key].cancel(cause)
	case giveUp:
		t.giveUp(a, outcome{status: cause.status, message: cause.message})
	case giveDue:
		t.settle(a, *a.stream.due)
	}
	return r
}

// giveUp answers an attempt that is not executed, whatever it waits for.
func (t *turn) giveUp(a *attempt, o outcome) {
	if t.unpark(a) || t.unqueue(a) {
		t.pass(a, answer{outcome: o})
		t.leave(a)
		return
	}
	t.settle(a, o)
}

// rowExpires comes under a key whose row has expired. The last one of a step carries what to close when the removals are acknowledged.
type rowExpires struct{ removed chan struct{} }

func (e rowExpires) happen(t *turn) { t.expire(e) }

// rowsRemoved comes when the removal of the last row of a step is acknowledged.
type rowsRemoved struct{ removed chan struct{} }

func (e rowsRemoved) happen(*turn) { close(e.removed) }

// lateRow comes from the planted defect that replies first.
type lateRow struct {
	key string
	row *rowpb.Row
}

func (e lateRow) happen(t *turn) { t.setRow(e.key, e.row) }

var tooLate = outcome{status: codes.DeadlineExceeded, message: "the deadline passed while another request for this idempotency key was executed"}
