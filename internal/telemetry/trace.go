package telemetry

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// carrier is the trace context of a record as a propagator takes it.
type carrier struct{ *wire.Trace }

func (c carrier) field(key string) *string {
	switch key {
	case "traceparent":
		return &c.Parent
	case "tracestate":
		return &c.State
	case "baggage":
		return &c.Baggage
	}
	return nil
}

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string {
	if f := c.field(key); f != nil {
		return *f
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c carrier) Set(key, value string) {
	if f := c.field(key); f != nil {
		*f = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (c carrier) Keys() []string { return []string{"traceparent", "tracestate", "baggage"} }

// Kinds of spans, for their beginning.
var (
	Server   = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	Client   = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}
	Producer = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer)}
	Consumer = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)}
)

func (t *Telemetry) propagate(p propagation.TextMapPropagator) {
	t.propagator, t.fields = p, p.Fields()
}

// Inject is the trace context for the headers of a record that is made within ctx. What is not propagated is that of the
// caller, as it came.
func (t *Telemetry) Inject(ctx context.Context, caller wire.Trace) wire.Trace {
	c := carrier{&caller}
	for _, name := range t.fields {
		c.Set(name, "")
	}
	t.propagator.Inject(ctx, c)
	return caller
}

// Extract is ctx within the trace of a record; as it is where the record names none.
func (t *Telemetry) Extract(ctx context.Context, record wire.Trace) context.Context {
	if record == (wire.Trace{}) {
		return ctx
	}
	return t.propagator.Extract(ctx, carrier{&record})
}

// OwnOrCaller is the span that leads to a call: our own, else, where nothing is traced, the one that the caller named; not
// valid where there is none.
func OwnOrCaller(own trace.SpanContext, caller wire.Trace) trace.SpanContext {
	if own.IsValid() || caller.Parent == "" {
		return own
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier{&wire.Trace{Parent: caller.Parent}}))
}

// Call is what a span says of the call that its record belongs to.
type Call struct {
	Method        string // package.Service/Method
	CorrelationID string
	Key           []byte // of the record
}

// Send are the attributes of a span for a record that is sent.
func Send(topic string, c Call) []attribute.KeyValue {
	return append(message(topic, c), semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend)
}

// Receive are those of a span for a reply that a caller is given.
func Receive(topic string, c Call) []attribute.KeyValue {
	return append(message(topic, c), semconv.MessagingOperationName("receive"), semconv.MessagingOperationTypeReceive)
}

// Process are those of a span for a request that a group answers.
func Process(topic, group string, c Call) []attribute.KeyValue {
	return append(message(topic, c), semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
		semconv.MessagingConsumerGroupName(group))
}

// Fetch are those of a span for a call that reads a topic, all of it or as one of a group.
func Fetch(topic, group, method string) []attribute.KeyValue {
	all := []attribute.KeyValue{semconv.MessagingSystemKafka, semconv.MessagingDestinationName(topic), semconv.RPCSystemNameGRPC, semconv.RPCMethod(method),
		semconv.MessagingOperationName("receive"), semconv.MessagingOperationTypeReceive}
	if group != "" {
		all = append(all, semconv.MessagingConsumerGroupName(group))
	}
	return all
}

// Count is how many messages were read.
func Count(messages int64) attribute.KeyValue {
	return semconv.MessagingBatchMessageCount(int(messages))
}

// Position are the attributes of where a record lies.
func Position(partition int32, offset int64) []attribute.KeyValue {
	return []attribute.KeyValue{semconv.MessagingDestinationPartitionID(strconv.Itoa(int(partition))), semconv.MessagingKafkaOffset(int(offset))}
}

func message(topic string, c Call) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, 12)
	out = append(out, semconv.MessagingSystemKafka, semconv.MessagingDestinationName(topic),
		semconv.MessagingMessageConversationID(c.CorrelationID), semconv.RPCSystemNameGRPC, semconv.RPCMethod(c.Method))
	if c.Key != nil {
		out = append(out, semconv.MessagingKafkaMessageKey(string(c.Key)))
	}
	return out
}

// SetStatus says how the call of a span ended. As in the conventions for servers, only a status that is not the caller's
// doing makes the span an error.
func SetStatus(span trace.Span, status codes.Code, message string) {
	switch status {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		SetClientStatus(span, status, message)
	default:
		span.SetAttributes(semconv.RPCResponseStatusCode(wire.StatusName(status)))
	}
}

// SetClientStatus is SetStatus for a span of the side that asked: every status but OK makes it an error.
func SetClientStatus(span trace.Span, status codes.Code, message string) {
	span.SetAttributes(semconv.RPCResponseStatusCode(wire.StatusName(status)))
	if status != codes.OK {
		span.SetStatus(otelcodes.Error, message)
		span.SetAttributes(semconv.ErrorTypeKey.String(wire.StatusName(status)))
	}
}

// Fail says that what a span stands for could not be done.
func Fail(span trace.Span, err error) {
	span.SetStatus(otelcodes.Error, err.Error())
	span.SetAttributes(semconv.ErrorTypeOther)
}
