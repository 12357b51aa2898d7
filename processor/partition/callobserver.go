package partition

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// CallObserver is told by the caller what becomes of calls. What it notes on a span is on that of the attempt's record.
type CallObserver struct {
	Metrics *telemetry.Metrics
	Group   string
}

// rowCall is the key of the call of a row in its context. A drain waits for it once its attempt has begun, and not before: the next owner of the partition
// finds its row.
type rowCall struct{}

// Attempt implements grpcout.Observer.
func (CallObserver) Attempt(ctx context.Context, _ string, n int, probe bool) context.Context {
	if c, is := ctx.Value(rowCall{}).(*call); is {
		c.attempted = c.delivery.Hold()
	}
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	breaker := "closed"
	if probe {
		breaker = "half-open"
	}
	return telemetry.WithClientAttributes(ctx, attribute.Int("kafka_grpc.attempt", n), attribute.String("kafka_grpc.breaker", breaker))
}

// Attempted implements grpcout.Observer.
func (o CallObserver) Attempted(method string, t grpcout.Target, r grpcout.Result) {
	o.Metrics.Attempted(method, t.Address, r.Attempts, r.Status)
}

// Held implements grpcout.Observer.
func (CallObserver) Held(ctx context.Context, d time.Duration) {
	trace.SpanFromContext(ctx).AddEvent("held by the breaker", trace.WithAttributes(
		attribute.Float64("kafka_grpc.seconds", d.Seconds()), attribute.String("kafka_grpc.breaker", "open")))
}

// Waits implements grpcout.Observer.
func (o CallObserver) Waits(pace string) (done func()) { return o.Metrics.Waits(o.Group, pace) }

// Paced implements grpcout.Observer.
func (o CallObserver) Paced(ctx context.Context, method string, d time.Duration) {
	o.Metrics.Took(method, telemetry.StagePace, d)
	if d > 0 {
		trace.SpanFromContext(ctx).AddEvent("waited for a turn", trace.WithAttributes(attribute.Float64("kafka_grpc.seconds", d.Seconds())))
	}
}

// Backoff implements grpcout.Observer.
func (CallObserver) Backoff(ctx context.Context, pause time.Duration, r grpcout.Result) {
	trace.SpanFromContext(ctx).AddEvent("backoff", trace.WithAttributes(
		attribute.Float64("kafka_grpc.seconds", pause.Seconds()), attribute.Int("kafka_grpc.attempt", r.Attempts),
		attribute.String("rpc.response.status_code", wire.StatusName(r.Status))))
}
