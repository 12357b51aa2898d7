package partition

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// A request in a row is its record, as it was on its topic: with the metadata that the topic has, and nothing else of its caller. An attempt is made of it each
// time that something is done for it, as the configuration says then.

// requestOf is an attempt as a row keeps it. first is the one that it waits behind, which has the same message; nil: none.
func requestOf(a *attempt, first *rowpb.Request) *rowpb.Request {
	r := &rowpb.Request{
		Source: &rowpb.Source{Topic: a.source.topic, Partition: a.source.partition, Offset: a.source.offset, TimestampMs: a.source.timestamp.UnixMilli()},
		Key:    a.record.Key, HasKey: a.record.Key != nil,
	}
	if a.topic != a.source.topic {
		r.ReadFrom = a.topic
	}
	for _, h := range a.record.Headers {
		r.Headers = append(r.Headers, &rowpb.Header{Name: []byte(h.Name), Value: h.Value})
	}
	if first == nil || !bytes.Equal(a.record.Value, first.Value) {
		r.Value, r.HasValue = a.record.Value, true
	}
	if first == nil && a.event != nil {
		r.Message = a.message
	}
	return r
}

func sourceIn(r *rowpb.Request) source {
	s := r.GetSource()
	return source{s.GetTopic(), s.GetPartition(), s.GetOffset(), time.UnixMilli(s.GetTimestampMs())}
}

// readFrom is the topic that a request was read from.
func readFrom(r *rowpb.Request) string {
	if r.ReadFrom != "" {
		return r.ReadFrom
	}
	return r.Source.GetTopic()
}

func headersIn(r *rowpb.Request) []wire.Header {
	headers := make([]wire.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = wire.Header{Name: string(h.Name), Value: h.Value}
	}
	return headers
}

// requestIn is what the headers of a request in a row say.
func (b *Binding) requestIn(r *rowpb.Request) wire.Request {
	request, _ := b.config.Remote.Contract.DecodeRequest(headersIn(r), sourceIn(r).timestamp)
	return request
}

// restore makes an attempt of the nth request of a row.
func (t *turn) restore(key string, row *rowpb.Row, n int) *attempt {
	first, r := row.Waiting.Requests[0], row.Waiting.Requests[n]
	at := sourceIn(r)
	record := wire.Record{Topic: at.topic, Partition: at.partition, Offset: at.offset, Timestamp: at.timestamp, Headers: headersIn(r), Value: first.Value}
	if r.HasValue {
		record.Value = r.Value
	}
	if record.Value == nil && (r.HasValue || first.HasValue) {
		record.Value = []byte{}
	}
	if r.HasKey {
		record.Key = append([]byte{}, r.Key...)
	}
	request, _ := t.config.Remote.Contract.DecodeRequest(record.Headers, record.Timestamp)
	a := &attempt{
		part: t.Partition, request: request, method: request.FullMethod(), record: record, delivery: t.delivery, topic: readFrom(r), source: at,
		message: record.Value, key: key, opening: row.Fingerprint,
	}
	a.spans = &t.spans
	a.comes(requestEnds)
	a.row, a.result = row, telemetry.ResultExecuted
	if n > 0 {
		a.result = telemetry.ResultParked
	}
	rules := t.rules.Load()
	if route, isEvent := rules.remote.EventRoute(at.topic, record); isEvent {
		t.restoreEvent(a, rules, first, route)
	} else {
		var ok bool
		if a.replyTo, ok = t.replyTopic(at.topic, request.ReplyTo); !ok {
			a.lost = fmt.Sprintf("reply topic %.249q is not one that a route of topic %s names", request.ReplyTo, at.topic)
			a.astray = a.lost
		} else if a.rules, a.route = rules, rules.route(a); a.route == nil {
			a.astray = fmt.Sprintf("no route takes method %s from topic %s", a.method, at.topic)
		}
	}
	return a
}

// restoreEvent is restore for a plain event. first has the message.
func (b *Binding) restoreEvent(a *attempt, rules *rules, first *rowpb.Request, route *topology.RemoteRoute) {
	if route == nil {
		a.astray = fmt.Sprintf("no route takes plain events of topic %s such as this one", a.source.topic)
		a.lost = a.astray
		return
	}
	rules.take(a, route)
	if a.message = first.Message; a.message == nil {
		a.message = []byte{}
	}
	if err := b.identify(a, &eventReader{record: a.record, input: a.event.Event.Input, message: a.message}); err != nil {
		a.astray = err.Error()
	}
}

// beginAgain is begin for an attempt of a row.
func (b *Binding) beginAgain(a *attempt) {
	a.read = time.Now()
	if !b.config.Telemetry.Tracing {
		return
	}
	ctx := b.config.Telemetry.Extract(context.Background(), a.request.Trace)
	a.baggage = baggage.FromContext(ctx)
	_, a.process = b.tracer.Start(ctx, "process "+a.source.topic, telemetry.Consumer...)
	if a.process.IsRecording() {
		a.process.SetAttributes(append(telemetry.Process(a.source.topic, b.config.Remote.Group, telemetry.Call{
			Method: a.method, CorrelationID: a.request.CorrelationID, Key: a.record.Key,
		}), telemetry.Position(a.source.partition, a.source.offset)...)...)
		a.process.SetAttributes(attribute.Bool("kafka_grpc.waited", true))
		a.link(executionOf(a.row))
		a.spans.add(a)
	}
}

// rests ends the span of an attempt whose request is in a row: what comes of it has spans of its own.
func (a *attempt) rests() {
	if a.process == nil {
		return
	}
	a.spans.remove(a)
	a.process.SetAttributes(attribute.String("kafka_grpc.result", "waiting"))
	a.process.End()
}
