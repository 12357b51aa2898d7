package telemetry

import (
	"context"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"kafkagrpc/wire"
)

// ServerOptions make a span for each call of a server, where that is traced, and record the metrics that its grpc binding
// selects. Health checks and reflection have none.
func (t *Telemetry) ServerOptions(binding string) (all []grpc.ServerOption) {
	if t.Tracing {
		all = append(all, grpc.ChainStreamInterceptor(serverSpans{t.rpc(Server, otelgrpc.NewServerHandler)}.stream))
	}
	if r := t.recorders[binding]; r != nil {
		all = append(all, grpc.StatsHandler(serverRecorder{recording{}, r}))
	}
	return all
}

// aboutServer reports whether a method asks a server about itself.
func aboutServer(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// ClientOptions make a span for each attempt of a client, where that is traced, and record the metrics that the binding of
// the attempt's context selects.
func (t *Telemetry) ClientOptions() (all []grpc.DialOption) {
	if t.Tracing {
		spans := clientSpans{t.rpc(Client, otelgrpc.NewClientHandler)}
		all = append(all, grpc.WithChainUnaryInterceptor(spans.unary), grpc.WithChainStreamInterceptor(spans.stream))
	}
	if len(t.recorders) > 0 {
		all = append(all, grpc.WithStatsHandler(clientRecorder{}))
	}
	return all
}

// rpc hands the calls whose spans are recorded to otelgrpc. It is a stats.Handler, which grpc-go tells of each event of each call; where few
// are sampled that is most of what tracing costs. So it is told of what it makes something of, and only in calls that are recorded. As it also describes
// a call before it begins the span, that is begun here, and otelgrpc takes it for its own.
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

// begin begins the span of a call. Of one that is recorded, the caller tells events, of which the last is its end.
func (h rpc) begin(ctx context.Context, method string) (_ context.Context, recorded bool) {
	ctx, span := h.tracer.Start(ctx, strings.TrimPrefix(method, "/"), h.kind...)
	if !span.IsRecording() {
		return ctx, false
	}
	return h.otelgrpc.TagRPC(context.WithValue(ctx, begun{}, span), &stats.RPCTagInfo{FullMethodName: method}), true
}

func (h rpc) tell(ctx context.Context, events ...stats.RPCStats) {
	for _, e := range events {
		h.otelgrpc.HandleRPC(ctx, e)
	}
}

type serverSpans struct{ rpc }

// stream is a grpc.StreamServerInterceptor. All calls of services that the server does not know are streams to it.
func (h serverSpans) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if aboutServer(info.FullMethod) {
		return handle(service, stream)
	}
	ctx := stream.Context()
	var caller wire.Trace
	c := carrier{&caller}
	for _, name := range c.Keys() {
		if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
			c.Set(name, values[0])
		}
	}
	ctx, recorded := h.begin(h.telemetry.Extract(ctx, caller), info.FullMethod)
	err := handle(service, within{stream, ctx})
	if recorded {
		own := &stats.InHeader{}
		if p, ok := peer.FromContext(ctx); ok {
			own.LocalAddr = p.LocalAddr
		}
		answered := err
		if _, ok := status.FromError(err); !ok {
			answered = status.FromContextError(err).Err() // as grpc-go does
		}
		h.tell(ctx, own, &stats.End{Error: answered})
	}
	return err
}

// within is a stream in the context of its span.
type within struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (w within) Context() context.Context { return w.ctx }

type clientSpans struct{ rpc }

// unary is a grpc.UnaryClientInterceptor.
func (h clientSpans) unary(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	ctx, options = h.begin(ctx, method, options)
	return invoke(ctx, method, request, reply, conn, options...)
}

// stream is a grpc.StreamClientInterceptor.
func (h clientSpans) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, options = h.begin(ctx, method, options)
	return open(ctx, desc, conn, method, options...)
}

// begin begins the span of an attempt, and has the end of a recorded one told. What the context says is added to it.
func (h clientSpans) begin(ctx context.Context, method string, options []grpc.CallOption) (context.Context, []grpc.CallOption) {
	ctx, recorded := h.rpc.begin(ctx, method)
	if recorded {
		if attributes, ok := ctx.Value(clientAttributes{}).([]attribute.KeyValue); ok {
			trace.SpanFromContext(ctx).SetAttributes(attributes...)
		}
		var service peer.Peer // known at the end
		return ctx, append(options, grpc.Peer(&service), grpc.OnFinish(func(err error) {
			h.tell(ctx, &stats.OutHeader{Client: true, RemoteAddr: service.Addr}, &stats.End{Client: true, Error: err})
		}))
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
	return metadata.NewOutgoingContext(ctx, md), options
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
