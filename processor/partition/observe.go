package partition

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// observed is what telemetry keeps of an attempt. The partition's goroutine owns it, but for what is said otherwise.
type observed struct {
	read   time.Time // when the processor had its first record; zero before
	result telemetry.Result

	// Of an attempt that is traced, else nil. baggage and process are only read after they are made.
	process trace.Span
	baggage baggage.Baggage
	spans   *openSpans // of the partition

	sending   sync.Mutex
	replySpan trace.Span // of the reply's records; guarded by sending
}

// begin is called when it is clear that the attempt will be answered. It may be called again.
func (b *Binding) begin(a *attempt) {
	if !a.read.IsZero() {
		return
	}
	if a.row != nil {
		b.beginAgain(a)
		return
	}
	a.read, a.result = time.Now(), telemetry.ResultRefused
	if a.source.dated() {
		b.config.Telemetry.Metrics.Took(a.method, telemetry.StageTopic, a.read.Sub(a.source.timestamp))
	}
	if !b.config.Telemetry.Tracing {
		return
	}
	ctx := b.config.Telemetry.Extract(context.Background(), a.request.Trace)
	a.baggage = baggage.FromContext(ctx)
	_, a.process = b.tracer.Start(ctx, "process "+a.source.topic, telemetry.Consumer...)
	if a.process.IsRecording() { // most are not, where few are sampled
		a.process.SetAttributes(append(telemetry.Process(a.source.topic, b.config.Remote.Group, telemetry.Call{
			Method: a.method, CorrelationID: a.request.CorrelationID, Key: a.record.Key,
		}), telemetry.Position(a.source.partition, a.source.offset)...)...)
		a.spans.add(a)
	}
}

// traced is ctx within the attempt's span.
func (a *attempt) traced(ctx context.Context) context.Context {
	if a.process == nil {
		return ctx
	}
	if a.baggage.Len() > 0 {
		ctx = baggage.ContextWithBaggage(ctx, a.baggage)
	}
	return trace.ContextWithSpan(ctx, a.process)
}

// link names the execution whose result answers the attempt.
func (a *attempt) link(execution trace.SpanContext) {
	if a.process != nil && execution.IsValid() {
		a.process.AddLink(trace.Link{SpanContext: execution, Attributes: []attribute.KeyValue{attribute.String("kafka_grpc.link", "execution")}})
	}
}

// executionOf is the span that executed a row's key.
func executionOf(row *rowpb.Row) trace.SpanContext {
	id, err := trace.TraceIDFromHex(row.TraceId)
	if err != nil {
		return trace.SpanContext{}
	}
	span, err := trace.SpanIDFromHex(row.SpanId)
	if err != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true})
}

// execution is the span of a call; not valid where it is not traced.
func (a *attempt) execution() trace.SpanContext {
	if a.process == nil {
		return trace.SpanContext{}
	}
	return a.process.SpanContext()
}

// replyTrace is the trace context of the records of the attempt's reply. Safe for concurrent use.
func (b *Binding) replyTrace(a *attempt) wire.Trace {
	if a.process == nil {
		return wire.Trace{}
	}
	a.sending.Lock()
	defer a.sending.Unlock()
	ctx := a.traced(context.Background())
	if a.replySpan == nil {
		_, a.replySpan = b.tracer.Start(ctx, "send "+a.replyTo, telemetry.Producer...)
		if a.replySpan.IsRecording() {
			a.replySpan.SetAttributes(telemetry.Send(a.replyTo, telemetry.Call{
				Method: a.method, CorrelationID: a.request.CorrelationID, Key: []byte(a.request.CorrelationID),
			})...)
		}
	}
	return b.config.Telemetry.Inject(trace.ContextWithSpan(ctx, a.replySpan), wire.Trace{})
}

// observeReply ends the attempt's span with the outcome that is on its way, and answers what to call when Kafka has it, or has
// refused it.
func (b *Binding) observeReply(a *attempt, status codes.Code, message string) (sent func(partition int32, offset int64, err error)) {
	result, emitted := a.result, time.Now()
	if a.process != nil && a.process.IsRecording() {
		a.process.SetAttributes(attribute.String("kafka_grpc.result", string(result)))
		telemetry.SetStatus(a.process, status, message)
		a.process.End()
	}
	return func(partition int32, offset int64, err error) {
		a.sending.Lock()
		span := a.replySpan
		a.sending.Unlock()
		if span != nil && span.IsRecording() {
			if err != nil {
				telemetry.Fail(span, err)
			} else {
				span.SetAttributes(telemetry.Position(partition, offset)...)
			}
			span.End()
			a.spans.remove(a)
		}
		if err != nil {
			return
		}
		now, method := time.Now(), a.method
		b.config.Telemetry.Metrics.Took(method, telemetry.StageReply, now.Sub(emitted))
		if a.source.dated() {
			b.config.Telemetry.Metrics.Took(method, telemetry.StageWhole, now.Sub(a.source.timestamp))
		}
		b.config.Telemetry.Metrics.Answered(method, a.source.topic, result, status)
		b.config.Telemetry.Events.Print(telemetry.Event{
			Name: "request", Binding: b.config.Remote.Binding, Method: method, CorrelationID: a.request.CorrelationID,
			Topic: a.source.topic, Partition: a.source.partition, Offset: a.source.offset, Result: result, Status: status,
			Took: now.Sub(a.read), Span: a.execution(), Caller: a.request.Trace,
		})
	}
}

// abandon ends the attempt's span where the attempt is not answered here.
func (a *attempt) abandon(err error) {
	if a.process == nil {
		return
	}
	a.spans.remove(a)
	if errors.Is(err, errGivenUp) {
		a.process.SetAttributes(attribute.String("kafka_grpc.result", "given-up"))
	}
	telemetry.Fail(a.process, err)
	a.process.End()
	a.sending.Lock()
	defer a.sending.Unlock()
	if a.replySpan != nil {
		telemetry.Fail(a.replySpan, err)
		a.replySpan.End()
	}
}

// openSpans are the attempts of a partition whose spans are recorded and have not ended; at most as many as it has records in
// flight. Safe for concurrent use.
type openSpans struct {
	mu       sync.Mutex
	attempts map[*attempt]struct{}
}

func (o *openSpans) add(a *attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempts == nil {
		o.attempts = make(map[*attempt]struct{})
	}
	o.attempts[a] = struct{}{}
}

func (o *openSpans) remove(a *attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.attempts, a)
}

// giveUp ends the spans of a partition in which nothing is answered any more: what waits there comes to nothing.
func (o *openSpans) giveUp() {
	o.mu.Lock()
	left := o.attempts
	o.attempts = nil
	o.mu.Unlock()
	for a := range left {
		a.abandon(errGivenUp)
	}
}
