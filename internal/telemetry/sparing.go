package telemetry

import (
	"context"
	"os"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// sparing makes tracers that make no spans below one that is not sampled. The SDK makes each of them, with an id of its own, and
// tells nobody of it. The context stays that of the span above, so the trace is passed on to the next process all the same.
type sparing struct {
	trace.TracerProvider
	follows bool // the sampler decides as the process above has
}

type sparingTracer struct {
	trace.Tracer
	follows bool
}

// Tracer implements trace.TracerProvider.
func (s sparing) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	return sparingTracer{s.TracerProvider.Tracer(name, options...), s.follows}
}

// Start implements trace.Tracer. Each sampler that the environment can name decides below a span of this process as it has for that:
// it follows the span above, or the id of the trace, or decides all alike.
func (t sparingTracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	above := trace.SpanFromContext(ctx)
	if s := above.SpanContext(); s.IsValid() && !s.IsSampled() && (t.follows || !s.IsRemote()) {
		return ctx, above
	}
	return t.Tracer.Start(ctx, name, options...)
}

// samplerFollows tells whether the sampler that OTEL_TRACES_SAMPLER names, or else the SDK's own, decides as the process above has.
func samplerFollows() bool {
	switch strings.ToLower(strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER"))) {
	case "always_on", "always_off", "traceidratio":
		return false
	}
	return true
}
