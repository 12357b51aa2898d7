package telemetry_test

import (
	"testing"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/internal/wire"
)

func TestTraceContextTravelsInRecordHeaders(t *testing.T) {
	t.Parallel()
	record := wire.Trace{
		Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", State: "vendor=value", Baggage: "tenant=blue",
	}
	ctx := telemetry.Extract(t.Context(), record)
	if sc := trace.SpanContextFromContext(ctx); sc.TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" || !sc.IsRemote() || !sc.IsSampled() {
		t.Errorf("span context %+v", sc)
	}
	if got := baggage.FromContext(ctx).Member("tenant").Value(); got != "blue" {
		t.Errorf("baggage %q", got)
	}
	if got := telemetry.Inject(ctx); got != record {
		t.Errorf("%+v, not %+v", got, record)
	}
}

// What a stranger wrote there is no trace, and no error.
func TestUnreadableTraceContextIsNone(t *testing.T) {
	t.Parallel()
	for _, record := range []wire.Trace{{}, {Parent: "00-xyz"}, {State: "a=b"}, {Baggage: "\x00=;"}} {
		if sc := trace.SpanContextFromContext(telemetry.Extract(t.Context(), record)); sc.IsValid() {
			t.Errorf("%+v: %+v", record, sc)
		}
	}
}
