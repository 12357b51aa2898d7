package telemetry_test

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// What OTEL_PROPAGATORS names goes on within the trace of a record; the rest is the caller's, as it came.
func TestPropagatorsOfTheEnvironment(t *testing.T) {
	const parent, continued = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	record := wire.Trace{Parent: parent, State: "vendor=value", Baggage: "tenant=blue"}
	caller := wire.Trace{Parent: continued, State: "stale=value", Baggage: "tenant=red"}
	for variable, want := range map[string]wire.Trace{
		"":                        record,
		"tracecontext, baggage":   record,
		"tracecontext":            {Parent: parent, State: "vendor=value", Baggage: "tenant=red"},
		"baggage":                 {Parent: continued, State: "stale=value", Baggage: "tenant=blue"},
		"none":                    caller,
		"baggage,tracecontext,, ": record,
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("OTEL_PROPAGATORS", variable)
			set, err := telemetry.Setup(t.Context(), telemetry.Config{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx := set.Extract(t.Context(), record)
			if continues := strings.Contains(want.Parent, "4bf9"); trace.SpanContextFromContext(ctx).IsValid() != continues {
				t.Errorf("the trace goes on: %t", !continues)
			}
			if got := set.Inject(ctx, caller); got != want {
				t.Errorf("%+v, not %+v", got, want)
			}
			if err := set.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Without a state of the trace, that of another one is not left beside it.
func TestNoStaleTraceState(t *testing.T) {
	t.Parallel()
	record := wire.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	off := telemetry.Off()
	if got := off.Inject(off.Extract(t.Context(), record), wire.Trace{Parent: "nonsense", State: "stale=value", Baggage: "stale=value"}); got != record {
		t.Errorf("%+v, not %+v", got, record)
	}
}

func TestUnknownPropagatorsAreRefused(t *testing.T) {
	for variable, wants := range map[string][]string{
		"tracecontext,b3,jaeger": {`"b3" is not supported`, `"jaeger" is not supported`, "tracecontext and baggage"},
		"none,baggage":           {"none stands alone"},
	} {
		t.Setenv("OTEL_PROPAGATORS", variable)
		_, err := telemetry.Setup(t.Context(), telemetry.Config{}, nil)
		for _, want := range append(wants, "OTEL_PROPAGATORS") {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in: %v", variable, want, err)
			}
		}
	}
}
