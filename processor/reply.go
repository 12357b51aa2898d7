package processor

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// reply emits the records that answer an attempt: its messages, then the terminal record.
func (p *Processor) reply(ctx goka.Context, a *attempt, o outcome) {
	p.emitReply(ctx, a, o, p.replyRecords(a, o, true))
}

// replyMessages emits only the messages.
func (p *Processor) replyMessages(ctx goka.Context, a *attempt, o outcome) {
	if len(o.messages) > 0 {
		p.emitReply(ctx, a, o, p.replyRecords(a, o, false))
	}
}

func (p *Processor) emitReply(ctx goka.Context, a *attempt, o outcome, records []wire.Record) {
	status, message := o.status, o.message
	for _, r := range records {
		if err := p.limits.Check(a.replyTo, kafka.Size(r)); err != nil {
			if less, left, ok := o.within(p.maxReply(a.replyTo)); ok && left > 0 {
				p.clipped(a, left, p.limits.Of(a.replyTo))
				p.emitReply(ctx, a, less, p.replyRecords(a, less, records[len(records)-1].Value == nil))
				return
			}
			p.repeats(slog.LevelWarn, "reply", "a reply does not fit its topic: answering RESOURCE_EXHAUSTED", a, "error", err)
			status, message = codes.ResourceExhausted, replyTooLarge(a.replyTo, err)
			records = p.replyRecords(a, outcome{status: status, message: message}, true)
			p.settled(a)
			break
		}
	}
	parcel := newParcel(len(records), func(reason string) wire.Record {
		cause := a.source.cause(reason)
		if cause.Attempts = o.attempts; cause.Attempts > 0 {
			cause.Code = o.status
		}
		return p.letter(a, cause, "reply_lost")
	})
	if a.stream != nil {
		parcel.pin = &a.stream.pin
	}
	if a.process != nil && parcel.pin == nil {
		parcel.pin = new(wire.Pin) // it tells where the records lie
	}
	for _, r := range records {
		out := outgoing{Record: r, parcel: parcel}
		if r.Value == nil {
			out.sent = p.observeReply(a, status, message)
		}
		ctx.Emit(goka.Stream(a.replyTo), a.request.CorrelationID, out)
	}
}

// replyTooLarge is the status message where a record of a reply does not fit its topic.
func replyTooLarge(topic string, err error) string {
	return fmt.Sprintf("a reply does not fit topic %s: %v", topic, err)
}

// replyRecords are the messages, and the terminal record if that is wanted.
func (p *Processor) replyRecords(a *attempt, o outcome, end bool) []wire.Record {
	p.begin(a)
	reply := wire.Reply{
		CorrelationID: a.request.CorrelationID,
		Call:          a.request.Call,
		Trace:         p.replyTrace(a),
		Metadata:      o.metadata,
		Status:        o.status,
		Message:       o.message,
		Trailers:      o.trailers,
	}
	key := []byte(a.request.CorrelationID)
	records := make([]wire.Record, 0, len(o.messages)+1)
	if len(o.messages) > 0 {
		headers := p.remote.Contract.EncodeReplyMessage(reply)
		for i, m := range o.messages {
			if m == nil {
				m = []byte{} // an empty message; null would end the call
			}
			records = append(records, wire.Record{Key: key, Value: m, Headers: wire.Numbered(headers, wire.Nth(i))})
		}
		reply.Metadata = nil // it is on the messages
	}
	if defect.Planted == defect.TornReply {
		for i := range records {
			records[i].Headers = slices.DeleteFunc(records[i].Headers, wire.IsNumber)
		}
		records = append(records, records...)
	}
	if !end {
		return records
	}
	if o.status == codes.OK { // of a reply that was cut, nobody knows how much is out
		reply.Number = wire.Nth(o.count)
	}
	return append(records, wire.Record{Key: key, Headers: p.remote.Contract.EncodeReplyEnd(reply)})
}
