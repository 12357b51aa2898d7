package telemetry_test

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/telemetry"
)

// A span of what a stranger wrote takes no other span with it, and says as much as text can.
func TestSpansOfWhatIsNoText(t *testing.T) {
	server := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	set, err := telemetry.Setup(t.Context(), telemetry.Config{Service: "test", Log: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"café", "caf\xe9"} {
		all := trace.WithAttributes(attribute.String("a", text), attribute.StringSlice("b", []string{"plain", text}), attribute.Int("c", 1))
		_, span := set.Tracers.Tracer("test").Start(t.Context(), text, all)
		span.AddEvent(text, all)
		span.AddLink(trace.Link{SpanContext: span.SpanContext(), Attributes: []attribute.KeyValue{attribute.String("a", text)}})
		span.SetStatus(otelcodes.Error, text)
		span.End()
	}
	if err := set.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	var request coltrace.ExportTraceServiceRequest
	if err := proto.Unmarshal([]byte(server.got["/v1/traces"]), &request); err != nil {
		t.Fatal(err)
	}
	values := func(all []*commonpb.KeyValue) (out []string) {
		for _, a := range all {
			out = append(out, a.Value.GetStringValue())
			for _, v := range a.Value.GetArrayValue().GetValues() {
				out = append(out, v.GetStringValue())
			}
		}
		return slices.DeleteFunc(out, func(s string) bool { return s == "" })
	}
	var got [][]string
	for _, of := range request.ResourceSpans {
		for _, by := range of.ScopeSpans {
			for _, s := range by.Spans {
				got = append(got, slices.Concat([]string{s.Name, s.Status.Message}, values(s.Attributes), eventsOf(s, values), values(s.Links[0].Attributes)))
			}
		}
	}
	var want [][]string
	for _, text := range []string{"café", "caf\uFFFD"} {
		want = append(want, []string{text, text, text, "plain", text, text, text, "plain", text, text})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

func eventsOf(s *tracepb.Span, values func([]*commonpb.KeyValue) []string) (out []string) {
	for _, e := range s.Events {
		out = append(append(out, e.Name), values(e.Attributes)...)
	}
	return out
}
