package telemetry

import (
	"context"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"kafkagrpc/wire"
)

// ServerHandlers make a span for each call of a server, where that is traced, and record the metrics that its grpc binding
// selects. Health checks and reflection have none.
func (t *Telemetry) ServerHandlers(binding string) (all []stats.Handler) {
	if t.Tracing {
		all = append(all, serverHandler{t.rpc(Server, otelgrpc.NewServerHandler)})
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
		all = append(all, clientHandler{t.rpc(Client, otelgrpc.NewClientHandler)})
	}
	if len(t.recorders) > 0 {
		all = append(all, clientRecorder{})
	}
	return all
}

// rpc hands the calls whose spans are recorded to otelgrpc. That describes a call before it begins the span, which is in vain
// for most where few are sampled; so the span is begun here, and otelgrpc takes it for its own.
type rpc struct {
	otelgrpc  stats.Handler
	telemetry *Telemetry
	tracer    trace.Tracer
	kind      []trace.SpanStartOption
}

func (t *Telemetry) rpc(kind []trace.SpanStartOption, handler func(...otelgrpc.Option) stats.Handler) rpc {
	// Metrics of otelgrpc have the method as the caller wrote it for a label, so that strangers would make series; ours do not.
	return rpc{
		handler(otelgrpc.WithTracerProvider(begunSpans{}), otelgrpc.WithPropagators(t.propagator), otelgrpc.WithMeterProvider(noopmetric.NewMeterProvider())),
		t, t.Tracers.Tracer(otelgrpc.ScopeName, trace.WithInstrumentationVersion(otelgrpc.Version)), kind,
	}
}

// begin begins the span of a call.
func (h rpc) begin(ctx context.Context, info *stats.RPCTagInfo) (_ context.Context, recorded bool) {
	ctx, span := h.tracer.Start(ctx, strings.TrimPrefix(info.FullMethodName, "/"), h.kind...)
	if !span.IsRecording() {
		return ctx, false
	}
	return h.otelgrpc.TagRPC(context.WithValue(ctx, begun{}, span), info), true
}

// HandleRPC implements stats.Handler.
func (h rpc) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if trace.SpanFromContext(ctx).IsRecording() {
		h.otelgrpc.HandleRPC(ctx, event)
	}
}

// TagConn implements stats.Handler.
func (rpc) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (rpc) HandleConn(context.Context, stats.ConnStats) {}

type serverHandler struct{ rpc }

// TagRPC implements stats.Handler.
func (h serverHandler) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if aboutServer(info.FullMethodName) {
		return ctx
	}
	var caller wire.Trace
	c := carrier{&caller}
	for _, name := range c.Keys() {
		if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
			c.Set(name, values[0])
		}
	}
	ctx, _ = h.begin(h.telemetry.Extract(ctx, caller), info)
	return ctx
}

// clientHandler adds what the context says to the span.
type clientHandler struct{ rpc }

// TagRPC implements stats.Handler.
func (h clientHandler) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	ctx, recorded := h.begin(ctx, info)
	if recorded {
		if attributes, ok := ctx.Value(clientAttributes{}).([]attribute.KeyValue); ok {
			trace.SpanFromContext(ctx).SetAttributes(attributes...)
		}
		return ctx
	}
	// The trace is passed on all the same, in place of one that the metadata of the request may name.
	var own wire.Trace
	c := carrier{&own}
	h.telemetry.propagator.Inject(ctx, c)
	md, ok := metadata.FromOutgoingContext(ctx)
	if !ok {
		md = metadata.MD{}
	}
	for _, name := range c.Keys() {
		if value := c.Get(name); value != "" {
			md.Set(name, value)
		}
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// begun is the key of the span that otelgrpc is to take for its own.
type begun struct{}

// begunSpans is the provider of its tracer.
type begunSpans struct{ embedded.TracerProvider }

// Tracer implements trace.TracerProvider.
func (begunSpans) Tracer(string, ...trace.TracerOption) trace.Tracer { return begunTracer{} }

type begunTracer struct{ embedded.Tracer }

// Start implements trace.Tracer.
func (begunTracer) Start(ctx context.Context, _ string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	span := ctx.Value(begun{}).(trace.Span)
	config := trace.NewSpanStartConfig(options...)
	span.SetAttributes(config.Attributes()...)
	return trace.ContextWithSpan(ctx, span), span
}

type clientAttributes struct{}

// WithClientAttributes is ctx for a call whose span gets these attributes.
func WithClientAttributes(ctx context.Context, attributes ...attribute.KeyValue) context.Context {
	return context.WithValue(ctx, clientAttributes{}, attributes)
}
