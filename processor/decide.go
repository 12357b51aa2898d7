package processor

import (
	"bytes"
	"fmt"
	"log/slog"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// handle is goka's callback for every topic of the group. goka's Context is valid only in here.
func (p *Processor) handle(ctx goka.Context, message any) {
	d, _ := message.(*consumergroup.Delivery)
	if d == nil {
		return // of a session that is over: its record comes again
	}
	if ctx.Context().Err() != nil {
		// goka is shutting down: its context answers with nothing instead of failing, which would look like "no row". A
		// hold that is never released keeps the record uncommitted.
		d.Hold()
		return
	}
	part := p.partition(ctx.Partition())
	switch payload := d.Payload.(type) {
	case nil:
		p.record(ctx, d, part)
	case opened:
		ctx.SetValue(payload.row)
	case flowing:
		p.emit(ctx, payload)
	case completed:
		p.complete(ctx, d, part, payload)
	case answer:
		p.answer(ctx, payload)
	case overdue:
		p.overdue(ctx, part, payload.attempt)
	case idled:
		p.idled(ctx, part, payload.attempt)
	case blocking:
		p.blocking(ctx, part, payload.attempt)
	case expired:
		p.expire(ctx, d, part, payload)
	case swept:
		close(payload.step)
	case lateRow:
		ctx.SetValue(payload.row)
	}
}

// record reads a record of a request topic or of the loop topic, and refuses what cannot become a call.
func (p *Processor) record(ctx goka.Context, d *consumergroup.Delivery, part *partition) {
	record := kafka.RecordOf(d.Record)
	at := source{topic: record.Topic, partition: record.Partition, offset: record.Offset, timestamp: record.Timestamp}
	rekeyed := record.Topic == p.remote.Loop
	var unreadable error
	if rekeyed {
		record, at, unreadable = unlooped(record)
	}
	request, malformed := p.remote.Contract.DecodeRequest(record.Headers, record.Timestamp)
	a := &attempt{
		part: part, request: request, method: request.FullMethod(), record: record, delivery: d, topic: d.Record.Topic, source: at, message: record.Value,
	}
	a.spans = &part.spans
	if d.Rested() { // answered in an earlier session, before the end of its request
		p.outlive(a, d.Await())
		return
	}
	if unreadable != nil {
		p.deadLetter(ctx, a, at.cause(unreadable.Error()), "unreadable")
		return
	}
	if request.CorrelationID == "" {
		p.deadLetter(ctx, a, at.cause(fmt.Sprintf("no %s header: there is nowhere to answer", p.remote.Contract.CorrelationID)), "no_correlation_id")
		return
	}
	if size := len(request.CorrelationID) + len(request.Service) + len(request.Method); size > maxIdentity {
		p.deadLetter(ctx, a, at.cause(fmt.Sprintf("correlation id, service and method together have %d bytes, more than %d", size, maxIdentity)), "identity_too_large")
		return
	}
	var ok bool
	if a.replyTo, ok = p.replyTopic(at.topic, request.ReplyTo); !ok {
		p.deadLetter(ctx, a, at.cause(fmt.Sprintf("reply topic %.249q is not one that a route of topic %s names", request.ReplyTo, at.topic)), "unknown_reply_topic")
		return
	}
	if open := part.open[a.id()]; open != nil {
		p.follow(ctx, d, part, open, a)
		return
	}
	if part.answered.takes(d, a.id(), record.Value == nil, time.Now(), p.remote.Processing.StreamIdle) {
		return
	}
	known, isKnown := p.methods[a.method]
	unary := isKnown && known.Unary()
	if malformed != nil {
		p.refuse(ctx, part, a, unary, codes.InvalidArgument, malformed.Error())
		return
	}
	if request.Service == "" || request.Method == "" {
		p.refuse(ctx, part, a, true, codes.Internal, "")
		return
	}
	a.key = p.remote.Contract.TableKey(request)
	if size := len(a.key); size > maxIdentity {
		p.refuse(ctx, part, a, unary, codes.InvalidArgument, fmt.Sprintf("the idempotency key has %d bytes, more than %d", size, maxIdentity))
		return
	}
	if !rekeyed && (a.key != string(record.Key) || wire.Partition([]byte(a.key), p.partitions.Load()) != ctx.Partition()) {
		p.rekey(ctx, part, a, unary)
		return
	}
	if a.route = p.route(a); a.route == nil {
		p.refuse(ctx, part, a, unary, codes.Unimplemented, fmt.Sprintf("no route takes method %s from topic %s", a.method, at.topic))
		return
	}
	if n, numbered := request.Number.Get(); numbered && !request.Canceled {
		switch over := record.Value == nil && n > 0; {
		case over || part.inFlight(a.key, a.id()):
			// Written once more by a producer that did not hear of Kafka's acknowledgement, or read once more: its attempt has it, or is over.
			p.repeats(slog.LevelDebug, "repeated", "a record of a request was there already", a)
			return
		case n > 0:
			p.refuse(ctx, part, a, unary, codes.Unavailable, fmt.Sprintf("message %d of the request came without those before it: try again", n))
			return
		}
	}
	if left := request.LeftOut; left.Count > 0 && record.Value != nil {
		p.repeats(slog.LevelWarn, "left out", "metadata of a request is left out of its call", a, "left_out", left.Count, "first", left.First)
	}
	switch {
	case !unary && (record.Value != nil || request.Canceled || !p.takesOne(a.method)):
		p.streamRecord(ctx, d, part, a)
	case record.Value != nil:
		a.opening = newFingerprint(a.method, record.Value).sum()
		p.decide(ctx, d, part, a)
	case request.Canceled:
		p.cancel(d, part, a.key, a.id())
	default:
		p.halfClose(ctx, part, a)
	}
}

// refuse answers the first record of an attempt without a call. A null record of a unary call is not answered: the
// refusal of its message was the answer.
func (p *Processor) refuse(ctx goka.Context, part *partition, a *attempt, unary bool, status codes.Code, message string) {
	null := a.record.Value == nil
	if null && (unary || a.request.Canceled) {
		return
	}
	if !unary && !null {
		p.outlive(a, a.delivery.Await())
	}
	p.reply(ctx, a, outcome{status: status, message: message})
}

// rekey sends a record through the loop topic to the partition that owns its key.
func (p *Processor) rekey(ctx goka.Context, part *partition, a *attempt, unary bool) {
	record := looped(a.record, a.key, a.source)
	if err := p.limits.Check(p.remote.Loop, kafka.Size(record)); err != nil {
		p.refuse(ctx, part, a, unary, codes.ResourceExhausted, tooLargeToRekey(err))
		return
	}
	ctx.Loopback(a.key, record)
}

// halfClose handles the end of a request of a method that takes one message. Mostly that has been dealt with, in this
// session or before a restart; a request that never had one is answered here.
func (p *Processor) halfClose(ctx goka.Context, part *partition, a *attempt) {
	now := time.Now()
	if part.calls[a.key] != nil || a.late(now) || p.tooOld(a, now) || ctx.Value() != nil ||
		part.outdated.takes(a.delivery, a.id(), true, now, p.remote.Processing.StreamIdle) {
		return
	}
	p.reply(ctx, a, outcome{status: codes.InvalidArgument, message: "the request ended without a message"})
}

// mismatch is the outcome for a request that has the key of another one.
var mismatch = outcome{status: codes.FailedPrecondition, message: "idempotency key was used with another request"}

// decide answers the attempt from the table, parks it behind the call in flight for its key, or starts the call. Of a
// stream only the first message is known yet.
func (p *Processor) decide(ctx goka.Context, d *consumergroup.Delivery, part *partition, a *attempt) {
	p.begin(a)
	now := time.Now()
	var row *rowpb.Row
	switch value := ctx.Value().(type) {
	case *rowpb.Row:
		row = value
	case unreadableRow:
		p.repeats(slog.LevelError, "row", "a row of the table cannot be read: its key is answered DATA_LOSS until the row is deleted", a, "error", value.err)
		p.settle(ctx, a, outcome{status: codes.DataLoss, message: "the stored result of this idempotency key cannot be read"})
		return
	}
	inFlight := part.calls[a.key]
	own := inFlight == nil && executed(row, a, now)
	switch {
	case own && row.State == rowpb.State_STATE_OPEN:
		p.interrupted(ctx, d, a, row, true)
	case own:
		a.result = telemetry.ResultExecuted
		a.link(executionOf(row))
		// It was executed before a restart, and its messages are out.
		p.rewrite(ctx, row)
		d.Then(a.key, answer{outcome: endOf(row), waiting: []waiting{{attempt: a}}})
	case answers(row, now) && defect.Planted != defect.IgnoreRow:
		if !bytes.Equal(openingOf(row), a.opening) {
			p.mismatched(ctx, a)
			return
		}
		a.result = telemetry.ResultStored
		a.link(executionOf(row))
		p.rewrite(ctx, row)
		d.Charge(proto.Size(row))
		d.Then(a.key, answer{outcome: outcomeOf(row), waiting: []waiting{{attempt: a}}})
	case inFlight != nil:
		if !bytes.Equal(inFlight.opening, a.opening) {
			p.mismatched(ctx, a)
			return
		}
		a.result = telemetry.ResultParked
		a.link(inFlight.execution())
		inFlight.park(d, a)
		part.flight.parked.Add(1)
	case interrupted(row, now):
		p.interrupted(ctx, d, a, row, false)
	case a.late(now):
		p.settle(ctx, a, outcome{status: codes.DeadlineExceeded, message: "the deadline passed before the call was made"})
	case p.tooOld(a, now):
		p.discard(ctx, part, a, now)
	default:
		p.start(part, a, d.Hold(), now)
	}
}

// mismatched answers an attempt that has the key of another request.
func (p *Processor) mismatched(ctx goka.Context, a *attempt) {
	a.result = telemetry.ResultMismatch
	p.settle(ctx, a, mismatch)
}

// route finds the first route for a request.
func (p *Processor) route(a *attempt) *topology.RemoteRoute {
	for i := range p.remote.Routes {
		if r := &p.remote.Routes[i]; r.Topic == a.source.topic && r.ReplyTo == a.replyTo && r.Matches(a.method, a.record) {
			return r
		}
	}
	return nil
}

// replyTopic is where a request of a topic is answered: where it asks, if a route says so too. A client must not
// make us write to any topic it likes. A request that names none is answered where its topic's only reply topic is.
func (p *Processor) replyTopic(topic, asked string) (string, bool) {
	only, several := "", false
	for _, r := range p.remote.Routes {
		if r.Topic != topic {
			continue
		}
		if r.ReplyTo == asked {
			return asked, true
		}
		several = several || only != "" && only != r.ReplyTo
		only = r.ReplyTo
	}
	return only, asked == "" && only != "" && !several
}
