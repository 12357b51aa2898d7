package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/payload"
	"kafkagrpc/internal/restart"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Plain events are records without the contract's headers. A route says which method they call, and how their value stands for its message. Once
// that is read, an event is an attempt as any other: decided, called and answered the same way.
//
//	record --> route --> value (here, or on a goroutine where a schema has to be fetched) --> key --> attempt
//	             |          |                                                                  |
//	             +- skip    +--> dead letter <-------------------------------------------------+

// eventRoute is a route of plain events with what reads and writes their values.
type eventRoute struct {
	*topology.RemoteRoute
	decoder payload.Decoder
	encoder payload.Encoder // nil: nothing is replied
}

// Codecs answers what reads and writes the values of the events of a route. The encoder is nil where nothing is replied.
type Codecs func(topology.Event) (payload.Decoder, payload.Encoder, error)

// eventRoutes are those of a remote. What reads and writes events that are known stays.
func eventRoutes(remote topology.Remote, codecs Codecs, known map[*topology.Event]*eventRoute) (map[*topology.RemoteRoute]*eventRoute, error) {
	all := make(map[*topology.RemoteRoute]*eventRoute)
	for i := range remote.Routes {
		var err error
		r := &eventRoute{RemoteRoute: &remote.Routes[i]}
		if r.Event == nil {
			continue
		}
		if before := known[r.Event]; before != nil {
			r.decoder, r.encoder = before.decoder, before.encoder
		} else if r.decoder, r.encoder, err = codecs(*r.Event); err != nil {
			return nil, fmt.Errorf("topic %s, method %s: %w", r.Topic, r.Event.Method, err)
		}
		all[r.RemoteRoute] = r
	}
	return all, nil
}

// The classes of plain events that call nothing, for the metrics.
const (
	classTombstone = "tombstone"
	classNoRoute   = "no_route"
	classValue     = "event_value"
	classKey       = "event_key"
	classMetadata  = "event_metadata"
	classFailed    = "event_failed"
)

// readEvent reads a plain event.
func (t *turn) readEvent(a *attempt, rules *rules, route *topology.RemoteRoute) {
	switch {
	case route == nil:
		t.skipEvent(a, classNoRoute, "a plain event is left out: no route takes it")
		return
	case a.record.Value == nil && route.Event.Tombstones == topology.SkipTombstones:
		t.skipEvent(a, classTombstone, "a plain event is left out: it has no value")
		return
	}
	rules.take(a, route)
	switch size := len(a.record.Key); {
	case a.record.Value == nil:
		t.deadLetter(a, a.source.cause("the event has no value"), classTombstone)
		return
	case a.replyTo != "" && size > maxIdentity:
		t.deadLetter(a, a.source.cause(fmt.Sprintf("the key of the record, which is that of its reply, has %d bytes, more than %d", size, maxIdentity)), classIdentity)
		return
	}
	if t.lacksKey(a) {
		t.deadLetter(a, a.source.cause(keyless), classKey)
		return
	}
	if err := t.fitsModel(route.Requests, a.record.Key, a.record.Value); err != nil {
		t.deadLetter(a, a.source.cause(err.Error()), classModel)
		return
	}
	t.join(a)
	if a.event.decoder.Ready(a.record.Value) {
		message, err := a.event.decoder.Decode(t.delivery.Context(), a.record.Value)
		if !passes(err) {
			t.decoded(a, message, err)
			return
		}
	}
	hold := t.delivery.Hold()
	t.decoding.Go(func() { t.decodeEvent(a, hold) })
}

// take makes a record one of a route of plain events.
func (s *rules) take(a *attempt, route *topology.RemoteRoute) {
	a.rules = s
	a.event, a.route, a.replyTo, a.method = s.events[route], route, route.ReplyTo, route.Event.Method
	a.request = wire.Request{Trace: a.request.Trace, ReplyTo: a.replyTo}
	a.request.Service, a.request.Method, _ = strings.Cut(a.method, "/")
}

// skipEvent counts a record that is nothing to this program.
func (t *turn) skipEvent(a *attempt, class, message string) {
	t.config.Telemetry.Metrics.Skipped(a.source.topic, class)
	t.repeats(slog.LevelInfo, class, message, a)
}

// passes reports whether an error of a decoder may pass, such as that of a registry that cannot be reached.
func passes(err error) bool {
	return err != nil && !errors.As(err, new(*payload.Error))
}

// decodeEvent decodes a value for which something has to be fetched first, as often as it takes.
func (b *Binding) decodeEvent(a *attempt, hold *consumergroup.Hold) {
	ctx := a.delivery.Context()
	pause := b.rules.Load().remote.Processing.RetryInitial
	for {
		message, err := b.decodeOnce(ctx, a)
		if !passes(err) {
			hold.Inject(string(a.record.Key), eventDecoded{a, message, err}) // else it is read again
			return
		}
		if ctx.Err() != nil {
			return
		}
		b.repeats(slog.LevelWarn, "event", "the value of a plain event cannot be read yet: trying again", a, "error", err, "pause", pause)
		if !restart.Pause(ctx, pause) {
			return
		}
		pause = min(2*pause, b.rules.Load().remote.Processing.RetryMax)
	}
}

func (b *Binding) decodeOnce(ctx context.Context, a *attempt) ([]byte, error) {
	if limit := b.rules.Load().remote.Processing.Timeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return a.event.decoder.Decode(ctx, a.record.Value)
}

// eventDecoded comes when the value of an event was decoded on another goroutine.
type eventDecoded struct {
	attempt *attempt
	message []byte
	err     error
}

func (e eventDecoded) happen(t *turn) { t.decoded(e.attempt, e.message, e.err) }

// decoded makes a call of an event, or finds why it is none.
func (t *turn) decoded(a *attempt, message []byte, err error) {
	if err != nil {
		t.discardEvent(a, fmt.Sprintf("the value does not fit %s: %v", a.event.Event.Input.FullName(), err), classValue)
		return
	}
	a.message = message
	e := eventReader{record: a.record, input: a.event.Event.Input, message: message}
	if a.key, err = t.eventKey(a, &e); err != nil {
		t.discardEvent(a, "idempotency-key: "+err.Error(), classKey)
		return
	}
	if err := t.identify(a, &e); err != nil {
		t.discardEvent(a, err.Error(), classMetadata)
		return
	}
	here := t.config.Remote.Processing.Ordered() || wire.Partition([]byte(a.key), t.config.Partitions()) == t.id
	if !here && (a.topic != t.config.Remote.Loop || string(a.delivery.Record.Key) != a.key) {
		t.rekey(a, true)
		return
	}
	t.beginEvent(a)
}

// discardEvent makes a dead letter of an event that has its place in a line already.
func (t *turn) discardEvent(a *attempt, reason, class string) {
	t.deadLetter(a, a.source.cause(reason), class)
	a.advance(replyEnds)
}

// identify gives the call of an event, whose key is known, its metadata.
func (b *Binding) identify(a *attempt, e *eventReader) error {
	a.request.CorrelationID = a.key
	a.request.Metadata = nil
	for _, m := range a.event.Event.Metadata {
		value, err := e.text(m.Value)
		if err == nil && !carried(m.Name, value) {
			err = errors.New("the value has control characters; metadata with such bytes needs a name that ends in -bin")
		}
		if err != nil {
			return fmt.Errorf("metadata %s: %w", m.Name, err)
		}
		a.request.Metadata = append(a.request.Metadata, wire.Field{Name: m.Name, Value: value})
	}
	if name := b.config.Remote.Contract.IdempotencyMetadata; !slices.ContainsFunc(a.request.Metadata, func(f wire.Field) bool { return f.Name == name }) {
		a.request.Metadata = append(a.request.Metadata, wire.Field{Name: name, Value: a.key})
	}
	return nil
}

// beginEvent decides an event as a request whose only message has come.
func (t *turn) beginEvent(a *attempt) {
	if known := t.rules.Load().methods[a.method]; !known.Unary() {
		t.beginStream(a)
		return
	}
	a.comes(requestEnds)
	t.unary.begin(a.method)
	t.unary.add(a.message)
	a.opening = t.unary.sum()
	t.decideInTurn(a)
}

// eventKey is the idempotency key of an event.
func (t *turn) eventKey(a *attempt, e *eventReader) (string, error) {
	key := ownKey(a)
	if expression := a.event.Event.Key; expression != nil {
		var err error
		if key, err = e.text(expression); err != nil {
			return "", err
		}
	}
	if len(key) > maxIdentity {
		return "", fmt.Errorf("it has %d bytes, more than %d", len(key), maxIdentity)
	}
	if !carried(t.config.Remote.Contract.IdempotencyMetadata, key) {
		return "", errors.New("it has control characters, which the metadata of a call cannot carry")
	}
	return key, nil
}

// ownKey is the key of an event whose route names none: where it was first. A replayed dead letter says that itself.
func ownKey(a *attempt) string {
	if key := deadletter.EventKey(a.record.Headers); key != "" {
		return key
	}
	return fmt.Sprintf("%s/%d/%d", a.source.topic, a.source.partition, a.source.offset)
}

// keyUnread is the key of an event whose value is not read, or one of its own where the key is in that. "": it is a dead letter.
func keyUnread(a *attempt, event *topology.Event) string {
	if event.Key == nil {
		return ownKey(a)
	}
	if slices.ContainsFunc(event.Key, func(p topology.Part) bool { return p.From == topology.FromValue }) {
		return a.source.String()
	}
	key, err := (&eventReader{record: a.record}).text(event.Key)
	if err != nil {
		return ""
	}
	return key
}

// knownKey is the key of an event, as far as that is known.
func knownKey(a *attempt) string {
	if a.key == "" && a.event.Event.Key == nil {
		return ownKey(a)
	}
	return a.key
}

// failed keeps an event whose call failed: nobody waits for its reply.
func (t *turn) failed(a *attempt, status codes.Code, message string, attempts int) {
	kept := a.kept
	if kept == nil {
		cause := a.source.cause(fmt.Sprintf("the call failed: %s %.1000s", status, message))
		cause.Code, cause.Attempts = status, attempts
		kept = &keptLetter{cause, classFailed}
	}
	t.deadLetter(a, kept.cause, kept.class)
}

// carried reports whether gRPC metadata of a name carries a value.
func carried(name, value string) bool {
	return len(name) > 4 && name[len(name)-4:] == "-bin" || httpguts.ValidHeaderFieldValue(value)
}

// eventReader finds what expressions name in an event.
type eventReader struct {
	record  wire.Record
	input   protoreflect.MessageDescriptor
	message []byte
	parsed  protoreflect.Message // of message, once it is asked for
}

// text is what an expression stands for. A part of it that is missing or empty is an error.
func (e *eventReader) text(expression topology.Expression) (string, error) {
	var whole []byte
	for _, part := range expression {
		found, err := e.part(part)
		if err != nil {
			return "", err
		}
		if len(found) == 0 {
			return "", fmt.Errorf("the event has no %s", part)
		}
		whole = append(whole, found...)
	}
	return string(whole), nil
}

func (e *eventReader) part(p topology.Part) ([]byte, error) {
	switch p.From {
	case topology.FromKey:
		return e.record.Key, nil
	case topology.FromHeader:
		var last []byte
		for _, h := range e.record.Headers {
			if h.Name == p.Text {
				last = h.Value
			}
		}
		return last, nil
	case topology.FromValue:
		return e.field(p.Field)
	}
	return []byte(p.Text), nil
}

// field is a field of the message as text; nil: it is not there.
func (e *eventReader) field(path []protoreflect.FieldDescriptor) ([]byte, error) {
	if e.parsed == nil {
		m := dynamicpb.NewMessage(e.input)
		if err := proto.Unmarshal(e.message, m); err != nil {
			return nil, err
		}
		e.parsed = m
	}
	return payload.FieldText(e.parsed, path), nil
}
