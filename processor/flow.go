package processor

import (
	"context"
	"errors"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"

	"google.golang.org/grpc/codes"
)

// flow is one execution of a stream: its reply messages go to Kafka as they come. Before the first one the row is
// written as open, so that a crash cannot end in another execution, whose messages would mix with those already out.
type flow struct {
	p       *Processor
	call    *call
	ctx     context.Context
	window  *unacked
	collect bool // the method answers with one message: it is written with the end, as that of a unary call
	begun   bool // the row is open
	whole   bool // all messages are kept
	reply   streamed
}

// streamed is what went out of a reply.
type streamed struct {
	flows    bool     // the messages are out already
	count    int      // how many
	messages [][]byte // nil when they are larger than a row may be
	kept     int      // their bytes
}

// opened is injected before the first reply message.
type opened struct {
	row  *rowpb.Row
	done chan struct{}
}

// Acknowledged implements consumergroup.Acknowledged.
func (o opened) Acknowledged() { close(o.done) }

// flowing is injected for each reply message.
type flowing struct {
	record outgoing
	to     goka.Stream
	window *unacked
	bytes  int
}

// Acknowledged implements consumergroup.Acknowledged.
func (f flowing) Acknowledged() { f.window.give(f.bytes) }

// errGivenUp ends a stream whose partition has another owner, and the spans of all requests that wait in it.
var errGivenUp = errors.New("the partition was given up before the request was answered: its next owner reads it again")

// flow makes the call of a stream, and waits until all its reply messages are acknowledged.
func (p *Processor) flow(ctx context.Context, c *call) (grpcout.Result, *streamed) {
	known, isKnown := p.methods[c.method]
	f := &flow{p: p, call: c, ctx: ctx, window: newUnacked(), collect: isKnown && !known.ServerStreams}
	f.reply.flows, f.whole = !f.collect, true
	r := p.caller.Stream(ctx, targetOf(c.route.Target), grpcout.Stream{
		Method:   c.method,
		Metadata: c.request.Metadata.MD(),
		Next:     c.stream.inbox.next,
		Receive:  f.receive,
	})
	c.stream.inbox.close()
	if f.collect && r.Status == codes.OK && f.reply.count == 0 {
		r.Status, r.Message = codes.Internal, "the service answered OK without the message that the method answers with"
	}
	if f.collect && r.Status != codes.OK {
		f.p.replies.give(&f.reply)
		f.reply = streamed{}
	}
	// With the claim's context: messages that are out are waited for whatever ended the call.
	_ = f.window.none(c.delivery.Context()) // else nothing is injected any more
	return r, &f.reply
}

// receive takes a message of the service.
func (f *flow) receive(header metadata.MD, message []byte) error {
	f.call.stream.touch()
	if f.collect {
		if f.reply.count > 0 {
			f.call.cancel(errSecond)
			return errSecond
		}
		f.keep(message)
		return nil
	}
	if !f.begun {
		if err := f.begin(); err != nil {
			return err
		}
	}
	m := wire.FromMD(header)
	record := f.record(m, message)
	to := f.call.replyTo
	err := f.p.limits.Check(to, kafka.Size(record.Record))
	if err != nil {
		if o, left, ok := (outcome{metadata: m, messages: [][]byte{message}}).within(f.p.maxReply(to)); ok && left > 0 {
			f.p.clipped(f.call.attempt, left, f.p.limits.Of(to))
			record = f.record(o.metadata, message)
			err = f.p.limits.Check(to, kafka.Size(record.Record))
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
	out := flowing{record: record, to: goka.Stream(f.call.replyTo), window: f.window, bytes: len(message)}
	if !f.call.delivery.Hold().Inject(f.call.request.CorrelationID, out) {
		f.window.give(len(message))
		return errGivenUp
	}
	f.keep(message)
	return nil
}

// begin writes the row as open, and waits for its acknowledgement.
func (f *flow) begin() error {
	o := opened{row: f.p.openRow(f.call, time.Now()), done: make(chan struct{})}
	if !f.call.delivery.Hold().Inject(f.call.key, o) {
		return errGivenUp
	}
	f.begun = true
	select {
	case <-o.done:
		return nil
	case <-f.call.delivery.Context().Done():
		return errGivenUp
	}
}

// keep counts a message, and keeps it as long as all of them fit a row, and the process.
func (f *flow) keep(message []byte) {
	f.reply.count++
	switch n := len(message); {
	case f.collect: // it is all that the caller gets
		f.p.replies.bytes.Add(int64(n))
	case !f.whole:
		return
	case f.reply.kept+n > f.p.rowLimit().bytes || !f.p.replies.take(n):
		f.whole = false
		f.p.replies.give(&f.reply)
		return
	}
	f.reply.kept += len(message)
	f.reply.messages = append(f.reply.messages, message)
}

func (f *flow) record(m wire.Metadata, message []byte) outgoing {
	a := f.call.attempt
	r := wire.Record{
		Key:   []byte(a.request.CorrelationID),
		Value: message, // never nil
		Headers: f.p.remote.Contract.EncodeReplyMessage(wire.Reply{
			CorrelationID: a.request.CorrelationID, Call: a.request.Call, Trace: f.p.replyTrace(a), Metadata: m,
			Number: wire.Nth(f.reply.count),
		}),
	}
	return outgoing{Record: r, flow: a.stream}
}

// emit writes a reply message.
func (p *Processor) emit(ctx goka.Context, f flowing) {
	ctx.Emit(f.to, string(f.record.Key), f.record)
}

// interrupted answers an attempt at a key whose reply had begun before a restart. What the service did is not known.
func (p *Processor) interrupted(ctx goka.Context, d *consumergroup.Delivery, a *attempt, row *rowpb.Row, own bool) {
	row.State = rowpb.State_STATE_RETRYABLE
	row.Status = int32(codes.Unavailable)
	row.Message = "the call was interrupted by a restart when a part of its reply was out already: try again"
	now := time.Now()
	row.FinishedMs, row.ExpiresMs = now.UnixMilli(), now.Add(p.remote.Expiry).UnixMilli()
	ctx.SetValue(row)
	o := outcomeOf(row)
	if own {
		o = endOf(row)
	}
	d.Then(a.key, answer{outcome: o, waiting: []waiting{{attempt: a}}})
}
