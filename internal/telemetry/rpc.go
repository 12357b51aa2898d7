package telemetry

import (
	"context"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"
)

// options are the same on both sides. Metrics of otelgrpc have the method as the caller wrote it for a label, so that
// strangers would make series; ours do not.
func (t *Telemetry) options(more ...otelgrpc.Option) []otelgrpc.Option {
	return append(more, otelgrpc.WithTracerProvider(t.Tracers), otelgrpc.WithPropagators(t.propagator), otelgrpc.WithMeterProvider(noopmetric.NewMeterProvider()))
}

// ServerHandlers make a span for each call of a server, where that is traced, and record the metrics that its grpc binding
// selects. Health checks and reflection have none.
func (t *Telemetry) ServerHandlers(binding string) (all []stats.Handler) {
	if t.Tracing {
		all = append(all, otelgrpc.NewServerHandler(t.options(otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool {
			return !aboutServer(info.FullMethodName)
		}))...))
	}
	if r := t.recorders[binding]; r != nil {
		all = append(all, serverRecorder{recording{}, r})
	}
	return all
}

// aboutServer reports whether a method asks a server about itself.
func aboutServer(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// ClientHandlers make a span for each attempt of a client, where that is traced, and record the metrics that the binding of
// the attempt's context selects.
func (t *Telemetry) ClientHandlers() (all []stats.Handler) {
	if t.Tracing {
		all = append(all, clientHandler{otelgrpc.NewClientHandler(t.options()...)})
	}
	if len(t.recorders) > 0 {
		all = append(all, clientRecorder{})
	}
	return all
}

// clientHandler adds what the context says to the span.
type clientHandler struct{ stats.Handler }

// TagRPC implements stats.Handler.
func (h clientHandler) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	inner := h.Handler.TagRPC(ctx, info)
	if attributes, ok := ctx.Value(clientAttributes{}).([]attribute.KeyValue); ok {
		trace.SpanFromContext(inner).SetAttributes(attributes...)
	}
	return inner
}

type clientAttributes struct{}

// WithClientAttributes is ctx for a call whose span gets these attributes.
func WithClientAttributes(ctx context.Context, attributes ...attribute.KeyValue) context.Context {
	return context.WithValue(ctx, clientAttributes{}, attributes)
}
