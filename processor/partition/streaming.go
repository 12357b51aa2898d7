package partition

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// streaming is one execution of a stream: its reply messages go to Kafka as they come. Before the first one the row is
// written as open, so that a crash cannot end in another execution, whose messages would mix with those already out. The goroutine of the call
// owns it.
type streaming struct {
	*Binding
	call    *call
	ctx     context.Context
	window  *unacked
	collect bool // the method answers with one message: it is written with the end, as that of a unary call
	begun   bool // the row is open
	whole   bool // all messages are kept
	reply   flowedReply
}

// flowedReply is what went out of a reply.
type flowedReply struct {
	flows    bool     // the messages are out already
	count    int      // how many
	messages [][]byte // nil when they are larger than a row may be
	kept     int      // their bytes
}

// errGivenUp ends a stream whose partition has another owner, and the spans of all requests that wait in it.
var errGivenUp = errors.New("the partition was given up before the request was answered: its next owner reads it again")

// callStream makes the call of a stream, and waits until all its reply messages are acknowledged.
func (b *Binding) callStream(ctx context.Context, c *call) (grpcout.Result, *flowedReply) {
	known, isKnown := b.rules.Load().methods[c.method]
	f := &streaming{Binding: b, call: c, ctx: ctx, window: newUnacked(), collect: isKnown && !known.ServerStreams}
	f.reply.flows, f.whole = !f.collect, true
	r := b.config.Caller.Stream(ctx, TargetOf(c.route.Target), grpcout.Stream{
		Method:   c.method,
		Metadata: c.request.Metadata.MD(),
		Next:     c.stream.inbox.next,
		Receive:  f.receive,
		Pace:     c.rules.paces[c.route.GRPC],
		Moved:    func() grpcout.Target { return b.service(c.attempt) },
		Waiting:  c.stream.waits,
	})
	c.stream.inbox.close()
	if f.collect && r.Status == codes.OK && f.reply.count == 0 {
		r.Status, r.Message = codes.Internal, "the service answered OK without the message that the method answers with"
	}
	if f.collect && r.Status != codes.OK {
		b.replies.give(&f.reply)
		f.reply = flowedReply{}
	}
	// With the claim's context: messages that are out are waited for whatever ended the call.
	_ = f.window.none(c.delivery.Context()) // else nothing is injected any more
	return r, &f.reply
}

// receive takes a message of the service.
func (f *streaming) receive(header metadata.MD, message []byte) error {
	f.call.stream.touch()
	if f.collect {
		if f.reply.count > 0 {
			f.call.cancel(errSecond)
			return errSecond
		}
		f.keep(message)
		return nil
	}
	if to := f.call.replyTo; to == "" {
		f.keep(message)
		return nil
	}
	if !f.begun {
		if err := f.begin(); err != nil {
			return err
		}
	}
	m := wire.FromMD(header)
	to := f.call.replyTo
	record, err := f.replyMessage(f.call.attempt, m, f.reply.count, message)
	if err != nil {
		e := &ending{status: codes.Internal, message: err.Error()}
		if errors.As(err, new(*unfitReply)) {
			e.unfit = err
		}
		f.call.cancel(e)
		return e
	}
	err = f.config.Limits.Check(to, kafka.Size(record))
	if err != nil {
		if o, left, ok := (outcome{metadata: m, messages: [][]byte{message}}).within(f.maxReply(to)); ok && left > 0 {
			f.clipped(f.call.attempt, left, f.config.Limits.Of(to))
			record.Headers = f.messageHeaders(f.call.attempt, o.metadata, f.reply.count)
			err = f.config.Limits.Check(to, kafka.Size(record))
		}
	}
	if err != nil {
		e := &ending{status: codes.ResourceExhausted, message: replyTooLarge(to, err)}
		f.call.cancel(e)
		return e
	}
	if err := f.window.take(f.ctx, len(message)); err != nil {
		return err
	}
	stream := f.call.stream
	out := messageFlows{
		record: outbox.Record{Record: record, Lost: stream.lose, Pin: &stream.pin},
		to:     to, window: f.window, bytes: len(message),
	}
	if !f.call.delivery.Hold().Inject(f.call.request.CorrelationID, out) {
		f.window.give(len(message))
		return errGivenUp
	}
	f.keep(message)
	return nil
}

// begin writes the row as open, and waits for its acknowledgement.
func (f *streaming) begin() error {
	o := replyBegins{key: f.call.key, row: f.openRow(f.call, time.Now()), acknowledged: make(chan struct{})}
	if !f.call.delivery.Hold().Inject(f.call.key, o) {
		return errGivenUp
	}
	f.begun = true
	select {
	case <-o.acknowledged:
		return nil
	case <-f.call.delivery.Context().Done():
		return errGivenUp
	}
}

// keep counts a message, and keeps it as long as all of them fit a row, and the process.
func (f *streaming) keep(message []byte) {
	f.reply.count++
	switch n := len(message); {
	case f.collect: // it is all that the caller gets
		f.replies.bytes.Add(int64(n))
	case !f.whole:
		return
	case f.reply.kept+n > f.rowLimit(0).bytes || !f.replies.take(n):
		f.whole = false
		f.replies.give(&f.reply)
		return
	}
	f.reply.kept += len(message)
	f.reply.messages = append(f.reply.messages, message)
}

// answerInterrupted answers an attempt at a key whose reply had begun before a restart. What the service did is not known.
func (t *turn) answerInterrupted(a *attempt, row *rowpb.Row, own bool) {
	row.State = rowpb.State_STATE_RETRYABLE
	row.Status = int32(codes.Unavailable)
	row.Message = "the call was interrupted by a restart when a part of its reply was out already: try again"
	now := time.Now()
	row.FinishedMs, row.ExpiresMs = now.UnixMilli(), now.Add(t.rules.Load().remote.Expiry).UnixMilli()
	t.setRow(a.key, row)
	o := outcomeOf(row)
	if own {
		o = endOf(row)
	}
	t.then(a.key, answer{attempt: a, outcome: o})
}
