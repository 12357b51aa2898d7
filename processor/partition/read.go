package partition

import (
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// read reads a record of a request topic or of the loop topic, and refuses what cannot become a call.
func (t *turn) read() {
	a, unreadable, malformed := t.readAttempt()
	rules := t.rules.Load()
	if route, isEvent := rules.remote.EventRoute(a.source.topic, a.record); isEvent && unreadable == nil {
		t.readEvent(a, rules, route)
		return
	}
	null := a.record.Value == nil
	if t.delivery.Rested() { // answered in an earlier session, before the end of its request
		t.outlive(a, t.delivery.Await())
		return
	}
	if reason, class := t.unanswerable(a, unreadable); class != "" {
		t.deadLetter(a, a.source.cause(reason), class)
		return
	}
	if open := t.open[a.id()]; open != nil {
		t.follow(open, a)
		return
	}
	if t.outlived.takes(t.delivery, a.id(), null, time.Now(), t.rules.Load().remote.Processing.StreamIdle) {
		return
	}
	known, isKnown := rules.methods[a.method]
	unary := isKnown && known.Unary()
	if n, numbered := a.request.Number.Get(); unary && null && numbered && n > 0 && !a.request.Canceled {
		t.spare = a // there is a message before it, whose attempt does not wait for it
		return
	}
	if malformed != nil {
		t.refuse(a, unary, codes.InvalidArgument, malformed.Error())
		return
	}
	if a.request.Service == "" || a.request.Method == "" {
		t.refuse(a, true, codes.Internal, "")
		return
	}
	a.key = t.config.Remote.Contract.TableKey(a.request)
	if size := len(a.key); size > maxIdentity {
		t.refuse(a, unary, codes.InvalidArgument, fmt.Sprintf("the idempotency key has %d bytes, more than %d", size, maxIdentity))
		return
	}
	if t.lacksKey(a) {
		t.refuse(a, unary, codes.InvalidArgument, keyless)
		return
	}
	if !t.config.Remote.Processing.Ordered() && a.topic != t.config.Remote.Loop && (a.key != string(a.record.Key) || wire.Partition([]byte(a.key), t.config.Partitions()) != t.id) {
		t.rekey(a, unary)
		return
	}
	if a.rules, a.route = rules, rules.route(a); a.route == nil {
		t.refuse(a, unary, codes.Unimplemented, fmt.Sprintf("no route takes method %s from topic %s", a.method, a.source.topic))
		return
	}
	if t.outOfPlace(a, unary) {
		return
	}
	if !null {
		if err := t.fitsModel(a.route.Requests, a.record.Key, a.record.Value); err != nil {
			t.unfit(a, unary, err)
			return
		}
	}
	if left := a.request.LeftOut; left.Count > 0 && !null {
		t.repeats(slog.LevelWarn, "left out", "metadata of a request is left out of its call", a, "left_out", left.Count, "first", left.First)
	}
	switch {
	case !unary && (!null || a.request.Canceled || !t.takesOne(a.method)):
		t.beginStream(a)
	case !null:
		a.comes(requestEnds)
		t.unary.begin(a.method)
		t.unary.add(a.message)
		a.opening = t.unary.sum()
		t.join(a)
		t.decideInTurn(a)
	case a.request.Canceled:
		t.cancel(a)
	default:
		if t.isDealtWith(a) {
			t.spare = a
			return
		}
		t.replyAll(a, outcome{status: codes.InvalidArgument, message: "the request ended without a message"})
	}
}

// readAttempt makes an attempt of the turn's record. unreadable says why it is none of the loop topic's, and malformed what is wrong with its
// headers.
func (t *turn) readAttempt() (a *attempt, unreadable, malformed error) {
	record := *t.delivery.Record
	at := sourceOf(record)
	if record.Topic == t.config.Remote.Loop {
		record, at, unreadable = unlooped(record)
	}
	request, malformed := t.config.Remote.Contract.DecodeRequest(record.Headers, record.Timestamp)
	if a, t.spare = t.spare, nil; a == nil {
		a = new(attempt)
	}
	*a = attempt{
		part: t.Partition, request: request, method: request.FullMethod(), record: record, delivery: t.delivery, topic: t.delivery.Record.Topic,
		source: at, message: record.Value,
	}
	a.spans = &t.spans
	return a, unreadable, malformed
}

// unanswerable finds where an attempt is answered, or says why it can only become a dead letter, of which class; "" else.
func (t *turn) unanswerable(a *attempt, unreadable error) (reason, class string) {
	if unreadable != nil {
		return unreadable.Error(), "unreadable"
	}
	r := a.request
	if r.CorrelationID == "" {
		return fmt.Sprintf("no %s header: there is nowhere to answer", t.config.Remote.Contract.CorrelationID), "no_correlation_id"
	}
	if size := len(r.CorrelationID) + len(r.Service) + len(r.Method); size > maxIdentity {
		return fmt.Sprintf("correlation id, service and method together have %d bytes, more than %d", size, maxIdentity), classIdentity
	}
	var ok bool
	if a.replyTo, ok = t.replyTopic(a.source.topic, r.ReplyTo); !ok {
		return fmt.Sprintf("reply topic %.249q is not one that a route of topic %s names", r.ReplyTo, a.source.topic), "unknown_reply_topic"
	}
	return "", ""
}

// outOfPlace reports whether a record with a number is none with which a request begins, and refuses it where nobody else answers it.
func (t *turn) outOfPlace(a *attempt, unary bool) bool {
	n, numbered := a.request.Number.Get()
	if !numbered || a.request.Canceled {
		return false
	}
	if end := a.record.Value == nil; end && n > 0 || t.waiting(a) != nil {
		// Written once more by a producer that did not hear of Kafka's acknowledgement, or read once more: its attempt has it, or is over.
		t.repeats(slog.LevelDebug, "repeated", "a record of a request was there already", a)
		return true
	}
	if n > 0 {
		t.refuse(a, unary, codes.Unavailable, fmt.Sprintf("message %d of the request came without those before it: try again", n))
	}
	return n > 0
}

// refuse answers the first record of an attempt without a call. A null record of a unary call is not answered: the
// refusal of its message was the answer.
func (t *turn) refuse(a *attempt, unary bool, status codes.Code, message string) {
	null := a.record.Value == nil
	if null && (unary || a.request.Canceled) {
		return
	}
	if !unary && !null {
		t.outlive(a, a.delivery.Await())
	}
	t.replyAll(a, outcome{status: status, message: message})
}

// isDealtWith reports whether the end of a request of a method that takes one message asks for nothing more. Mostly the request was taken with its
// message, in this session or before a restart; one that never had a message is not answered yet.
func (t *turn) isDealtWith(a *attempt) bool {
	now := time.Now()
	queued := t.inLine(a, func(other *attempt) bool { return other.key == a.key }) != nil
	return queued || t.calls[a.key] != nil || a.late(now) || t.tooOld(a, now) || t.row(a.key) != nil ||
		t.outdated.takes(t.delivery, a.id(), true, now, t.rules.Load().remote.Processing.StreamIdle)
}

// route finds the first route for a request.
func (s *rules) route(a *attempt) *topology.RemoteRoute {
	for i := range s.remote.Routes {
		if r := &s.remote.Routes[i]; r.Event == nil && r.Topic == a.source.topic && r.ReplyTo == a.replyTo && r.Matches(a.method, a.record) {
			return r
		}
	}
	return nil
}

// replyTopic is where a request of a topic is answered: where it asks, if a route says so too. A client must not
// make us write to any topic it likes. A request that names none is answered where its topic's only reply topic is.
func (b *Binding) replyTopic(topic, asked string) (string, bool) {
	only, several := "", false
	for _, r := range b.rules.Load().remote.Routes {
		if r.Topic != topic || r.Event != nil {
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
