package telemetry_test

import (
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

func TestTraceContextTravelsInRecordHeaders(t *testing.T) {
	t.Parallel()
	record := wire.Trace{
		Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", State: "vendor=value", Baggage: "tenant=blue",
	}
	ctx := telemetry.Off().Extract(t.Context(), record)
	if sc := trace.SpanContextFromContext(ctx); sc.TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" || !sc.IsRemote() || !sc.IsSampled() {
		t.Errorf("span context %+v", sc)
	}
	if got := baggage.FromContext(ctx).Member("tenant").Value(); got != "blue" {
		t.Errorf("baggage %q", got)
	}
	if got := telemetry.Off().Inject(ctx, wire.Trace{}); got != record {
		t.Errorf("%+v, not %+v", got, record)
	}
}

// The status of a span follows that of the call, as the conventions for RPC have it.
func TestStatusOfSpans(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("test")
	for _, c := range []struct {
		status         codes.Code
		name           string
		server, client otelcodes.Code
	}{
		{codes.OK, "OK", otelcodes.Unset, otelcodes.Unset},
		{codes.NotFound, "NOT_FOUND", otelcodes.Unset, otelcodes.Error},
		{codes.Canceled, "CANCELLED", otelcodes.Unset, otelcodes.Error},
		{codes.Internal, "INTERNAL", otelcodes.Error, otelcodes.Error},
		{codes.DeadlineExceeded, "DEADLINE_EXCEEDED", otelcodes.Error, otelcodes.Error},
		{codes.Code(99), "99", otelcodes.Unset, otelcodes.Error},
	} {
		for i, set := range []func(trace.Span, codes.Code, string){telemetry.SetStatus, telemetry.SetClientStatus} {
			side := []otelcodes.Code{c.server, c.client}[i]
			spans.Reset()
			_, span := tracer.Start(t.Context(), "work")
			set(span, c.status, "why")
			span.End()
			got := spans.GetSpans()[0]
			if got.Status.Code != side || !slices.Contains(got.Attributes, attribute.String("rpc.response.status_code", c.name)) {
				t.Errorf("%v: %v, %v", c.status, got.Status, got.Attributes)
			}
		}
	}
}

// What a stranger wrote there is no trace, and no error.
func TestUnreadableTraceContextIsNone(t *testing.T) {
	t.Parallel()
	for _, record := range []wire.Trace{{}, {Parent: "00-xyz"}, {State: "a=b"}, {Baggage: "\x00=;"}} {
		if sc := trace.SpanContextFromContext(telemetry.Off().Extract(t.Context(), record)); sc.IsValid() {
			t.Errorf("%+v: %+v", record, sc)
		}
	}
}
