package processor

import (
	"bytes"
	"fmt"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/wire"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
)

// maxIdentity bounds what a reply and a row repeat of the request's own headers, so that both always fit their topics.
const maxIdentity = 16 << 10

// recordOverhead is more than the framing of a record takes, and the fixed fields of a row.
const recordOverhead = 1 << 10

// minRecord is what every topic that is written must take: a verdict of ours, percent-encoded, repeats the identity
// up to three times, and one that does not fit would end the processor.
const minRecord = 4 * maxIdentity

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
	case gathered:
		p.decide(ctx, d, part, payload.attempt)
	case abandoned:
		p.abandon(ctx, part, payload.attempt)
	case completed:
		p.complete(ctx, d, part, payload)
	case answer:
		p.answer(ctx, payload)
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
	if rekeyed {
		var err error
		if record, at, err = unlooped(record); err != nil {
			p.deadLetter(ctx, record, at.cause(err.Error()))
			return
		}
	}
	request, malformed := p.remote.Contract.DecodeRequest(record.Headers, record.Timestamp)
	if request.CorrelationID == "" {
		p.deadLetter(ctx, record, at.cause(fmt.Sprintf("no %s header: there is nowhere to answer", p.remote.Contract.CorrelationID)))
		return
	}
	if size := len(request.CorrelationID) + len(request.Service) + len(request.Method); size > maxIdentity {
		p.deadLetter(ctx, record, at.cause(fmt.Sprintf("correlation id, service and method together have %d bytes, more than %d", size, maxIdentity)))
		return
	}
	replyTo, ok := p.replyTopic(at.topic, request.ReplyTo)
	if !ok {
		p.deadLetter(ctx, record, at.cause(fmt.Sprintf("reply topic %.249q is not one that a route of topic %s names", request.ReplyTo, at.topic)))
		return
	}
	a := &attempt{request: request, record: record, source: at, replyTo: replyTo, message: record.Value}
	if malformed != nil {
		p.refuse(ctx, a, codes.InvalidArgument, malformed.Error())
		return
	}
	if request.Service == "" || request.Method == "" {
		p.refuse(ctx, a, codes.Internal, "")
		return
	}
	a.key = p.remote.Contract.TableKey(request)
	if size := len(a.key); size > maxIdentity {
		p.refuse(ctx, a, codes.InvalidArgument, fmt.Sprintf("the idempotency key has %d bytes, more than %d", size, maxIdentity))
		return
	}
	if !rekeyed && (a.key != string(record.Key) || wire.Partition([]byte(a.key), p.partitions) != ctx.Partition()) {
		p.rekey(ctx, a)
		return
	}
	method := request.FullMethod()
	known, isKnown := p.methods[method]
	if a.route = p.route(at.topic, replyTo, method); a.route == nil {
		p.refuse(ctx, a, codes.Unimplemented, fmt.Sprintf("no route takes method %s from topic %s", method, at.topic))
		return
	}
	if isKnown && !known.Unary() {
		p.refuse(ctx, a, codes.Unimplemented, fmt.Sprintf("streaming calls are not supported yet: %s", method))
		return
	}
	if !isKnown {
		p.gather(ctx, d, part, a)
		return
	}
	if record.Value == nil {
		p.halfClose(ctx, part, a)
		return
	}
	p.decide(ctx, d, part, a)
}

// refuse answers a record without a call. A null record without a message before it is not answered: the refusal
// of its call's message was the answer.
func (p *Processor) refuse(ctx goka.Context, a *attempt, status codes.Code, message string) {
	if a.record.Value == nil {
		return
	}
	p.reply(ctx, a, outcome{status: status, message: message})
}

// rekey sends a record through the loop topic to the partition that owns its key.
func (p *Processor) rekey(ctx goka.Context, a *attempt) {
	record := looped(a.record, a.key, a.source)
	if size := kafka.Size(record); size > p.maxRecord {
		p.refuse(ctx, a, codes.ResourceExhausted, fmt.Sprintf("a record of %d bytes cannot be re-keyed (limit %d)", size, p.maxRecord))
		return
	}
	ctx.Loopback(a.key, record)
}

// decide answers the attempt from the table, parks it behind the call in flight for its key, or starts the call.
func (p *Processor) decide(ctx goka.Context, d *consumergroup.Delivery, part *partition, a *attempt) {
	a.fingerprint = fingerprint(a.request.FullMethod(), a.message)
	now := time.Now()
	var row *rowpb.Row
	switch value := ctx.Value().(type) {
	case *rowpb.Row:
		row = value
	case unreadableRow:
		p.log.Error("a row of the table cannot be read: its key is answered DATA_LOSS until the row is deleted",
			"key", a.key, "error", value.err, "source", a.source)
		p.reply(ctx, a, outcome{status: codes.DataLoss, message: "the stored result of this idempotency key cannot be read"})
		return
	}
	inFlight := part.calls[a.key]
	switch {
	case answers(row, now) && defect.Planted != defect.IgnoreRow:
		if !sameRequest(row, a.fingerprint) {
			p.mismatch(ctx, a)
			return
		}
		// The local copy of the row may be ahead of the changelog after a crash, so it is written again.
		ctx.SetValue(row)
		d.Charge(proto.Size(row))
		d.Then(a.key, answer{outcome: outcomeOf(row), waiting: []waiting{{attempt: a}}})
	case inFlight != nil:
		if !bytes.Equal(inFlight.fingerprint, a.fingerprint) {
			p.mismatch(ctx, a)
			return
		}
		inFlight.parked = append(inFlight.parked, waiting{a, d.Hold()})
	case a.late(now):
		p.reply(ctx, a, outcome{status: codes.DeadlineExceeded, message: "the deadline passed before the call was made"})
	default:
		p.start(d, part, a, now)
	}
}

func (p *Processor) mismatch(ctx goka.Context, a *attempt) {
	p.reply(ctx, a, outcome{status: codes.FailedPrecondition, message: "idempotency key was used with another request"})
}

// route finds the first route for a request.
func (p *Processor) route(topic, replyTo, method string) *topology.RemoteRoute {
	for i := range p.remote.Routes {
		if r := &p.remote.Routes[i]; r.Topic == topic && r.ReplyTo == replyTo && r.Matches(method) {
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
