package partition

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/wire"
)

// replyAll emits the records that answer an attempt: its messages, then the terminal record.
func (t *turn) replyAll(a *attempt, o outcome) {
	t.emit(a, o, true)
	t.conclude(a)
}

// replyMessages emits only the messages. Where they do not fit their topic, that is the end of the reply.
func (t *turn) replyMessages(a *attempt, o outcome) {
	if len(o.messages) > 0 && t.emit(a, o, false) {
		t.conclude(a)
	}
}

// emit emits the records of a reply, and reports whether the terminal one is among them.
func (t *turn) emit(a *attempt, o outcome, end bool) (ended bool) {
	records, err := t.replyRecords(a, o, end)
	if err != nil {
		if errors.As(err, new(*unfitReply)) && a.event == nil { // an event that failed is kept anyway
			cause := a.source.cause(err.Error())
			cause.Code, cause.Attempts, cause.Partial = codes.Internal, o.attempts, a.partial()
			t.deadLetter(a, cause, classModel)
		}
		o, end = outcome{status: codes.Internal, message: err.Error(), attempts: o.attempts}, true
		records, _ = t.replyRecords(a, o, end) // without a message
	}
	status, message := o.status, o.message
	for _, r := range records {
		if err := t.config.Limits.Check(a.replyTo, kafka.Size(r)); err != nil {
			if less, left, ok := o.within(t.maxReply(a.replyTo)); ok && left > 0 {
				t.clipped(a, left, t.config.Limits.Of(a.replyTo))
				return t.emit(a, less, end)
			}
			t.repeats(slog.LevelWarn, "reply", "a reply does not fit its topic: answering RESOURCE_EXHAUSTED", a, "error", err)
			status, message = codes.ResourceExhausted, replyTooLarge(a.replyTo, err)
			end = true
			records, _ = t.replyRecords(a, outcome{status: status, message: message}, end)
			break
		}
	}
	if a.event != nil && end && status != codes.OK {
		t.failed(a, status, message, o.attempts)
	}
	if len(records) == 0 {
		t.unreplied(a, end, status, message)
		return end
	}
	var pin *wire.Pin
	switch {
	case a.stream != nil:
		pin = &a.stream.pin
	case a.process != nil:
		pin = new(wire.Pin) // it tells where the records lie
	}
	reply := outbox.NewReply(len(records), pin, func(reason string) wire.Record {
		cause := a.source.cause(reason)
		if cause.Attempts = o.attempts; cause.Attempts > 0 {
			cause.Code = o.status
		}
		return t.letter(a, cause, "reply_lost")
	})
	for i, r := range records {
		out := outbox.Record{Record: r, Reply: reply}
		if end && i == len(records)-1 {
			out.Sent = t.observeReply(a, status, message)
		}
		t.send(a.replyTo, out)
	}
	return end
}

// replyTooLarge is the status message where a record of a reply does not fit its topic.
func replyTooLarge(topic string, err error) string {
	return fmt.Sprintf("a reply does not fit topic %s: %v", topic, err)
}

// replyOf is what all records of the reply to an attempt say. Safe for concurrent use.
func (b *Binding) replyOf(a *attempt, m wire.Metadata) wire.Reply {
	return wire.Reply{CorrelationID: a.request.CorrelationID, Call: a.request.Call, Trace: b.replyTrace(a), Metadata: m}
}

// replyMessage is the record of the nth message of a reply. Safe for concurrent use.
func (b *Binding) replyMessage(a *attempt, m wire.Metadata, n int, message []byte) (wire.Record, error) {
	value, err := b.replyValue(a, message)
	return wire.Record{Key: a.replyKey(), Value: value, Headers: b.messageHeaders(a, m, n)}, err
}

// messageHeaders are the headers of the nth message of a reply. Safe for concurrent use.
func (b *Binding) messageHeaders(a *attempt, m wire.Metadata, n int) []wire.Header {
	reply := b.replyOf(a, m)
	reply.Number = wire.Nth(n)
	return b.config.Remote.Contract.EncodeReplyMessage(reply)
}

// replyRecords are the messages, and the terminal record if that is wanted. The reply to an event of a unary method is one record, which is both.
// There is none where an event is not replied to. An error is that of a message that cannot be encoded.
func (b *Binding) replyRecords(a *attempt, o outcome, end bool) (_ []wire.Record, err error) {
	b.begin(a)
	if a.replyTo == "" {
		return nil, nil
	}
	var whole []byte // of a unary reply to an event
	if a.event != nil && a.stream == nil && len(o.messages) > 0 {
		if whole, err = b.replyValue(a, o.messages[0]); err != nil {
			return nil, err
		}
		o.messages = nil
	}
	records := make([]wire.Record, 0, len(o.messages)+1)
	for i, m := range o.messages {
		record, err := b.replyMessage(a, o.metadata, i, m)
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	if defect.Planted == defect.TornReply {
		for i := range records {
			records[i].Headers = slices.DeleteFunc(records[i].Headers, wire.IsNumber)
		}
		records = append(records, records...)
	}
	if !end {
		return records, nil
	}
	reply := b.replyOf(a, o.metadata)
	if len(o.messages) > 0 {
		reply.Metadata = nil // it is on the messages
	}
	reply.Status, reply.Message, reply.Trailers = o.status, o.message, o.trailers
	if o.status == codes.OK && whole == nil { // of a reply that was cut, nobody knows how much is out
		reply.Number = wire.Nth(o.count)
	}
	return append(records, wire.Record{Key: a.replyKey(), Value: whole, Headers: b.config.Remote.Contract.EncodeReplyEnd(reply)}), nil
}

// replyKey is the key of the records of a reply: that of the event, which may be null, or the correlation id. Safe for concurrent use.
func (a *attempt) replyKey() []byte {
	if a.event != nil {
		return a.record.Key
	}
	return []byte(a.request.CorrelationID)
}

// replyValue is a message as the value of a record, never null: that would be an end. Safe for concurrent use.
func (b *Binding) replyValue(a *attempt, message []byte) ([]byte, error) {
	if a.event != nil {
		var err error
		if message, err = a.event.encoder.Encode(message); err != nil {
			return nil, fmt.Errorf("the reply cannot be written as an event: %w", err)
		}
	}
	if message == nil {
		message = []byte{}
	}
	if a.route != nil {
		if err := b.fitsModel(a.route.Replies, a.replyKey(), message); err != nil {
			return nil, &unfitReply{err}
		}
	}
	return message, nil
}

// unreplied ends an attempt to which nothing is replied.
func (t *turn) unreplied(a *attempt, end bool, status codes.Code, message string) {
	if end {
		t.observeReply(a, status, message)(-1, -1, nil)
		a.spans.remove(a)
	}
}

// unfitReply is why a message of a service does not fit the reply topic.
type unfitReply struct{ error }

func (u *unfitReply) Error() string {
	return "the reply of the service cannot be written: " + u.error.Error()
}
func (u *unfitReply) Unwrap() error { return u.error }
