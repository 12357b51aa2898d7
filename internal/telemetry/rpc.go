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
	return append(more, otelgrpc.WithTracerProvider(t.Tracers), otelgrpc.WithPropagators(Propagator), otelgrpc.WithMeterProvider(noopmetric.NewMeterProvider()))
}

// ServerHandler makes a span for each call of a server; nil without tracing. Health checks and reflection have none.
func (t *Telemetry) ServerHandler() stats.Handler {
	if !t.Tracing {
		return nil
	}
	return otelgrpc.NewServerHandler(t.options(otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool {
		return !strings.HasPrefix(info.FullMethodName, "/grpc.health.") && !strings.HasPrefix(info.FullMethodName, "/grpc.reflection.")
	}))...)
}

// ClientHandler makes a span for each attempt of a client; nil without tracing.
func (t *Telemetry) ClientHandler() stats.Handler {
	if !t.Tracing {
		return nil
	}
	return clientHandler{otelgrpc.NewClientHandler(t.options()...)}
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
