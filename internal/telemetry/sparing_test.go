package telemetry_test

import (
	"log/slog"
	"net"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

const (
	above   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
	sampled = above + "01"
	leftOut = above + "00"
)

// traced is telemetry with traces that are sampled as OTEL_TRACES_SAMPLER says.
func traced(t *testing.T, sampler string) *telemetry.Telemetry {
	t.Helper()
	t.Setenv("OTEL_TRACES_SAMPLER", sampler)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", newCollector(t).URL)
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	set, err := telemetry.Setup(t.Context(), telemetry.Config{Service: "test", Log: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return set
}

// What is recorded is what the sampler says, whatever is spared.
func TestSparingDoesNotChangeWhatIsSampled(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "1")
	for _, c := range []struct {
		sampler, parent string
		recorded        bool
	}{
		{"", "", true}, {"", sampled, true}, {"", leftOut, false},
		{"parentbased_always_on", "", true}, {"parentbased_always_on", leftOut, false},
		{"parentbased_always_off", "", false}, {"parentbased_always_off", sampled, true}, {"parentbased_always_off", leftOut, false},
		{"parentbased_traceidratio", "", true}, {"parentbased_traceidratio", leftOut, false},
		{"always_on", leftOut, true}, {"always_on", "", true},
		{"always_off", sampled, false}, {"always_off", "", false},
		{"traceidratio", leftOut, true}, {" ALWAYS_ON ", leftOut, true},
	} {
		t.Run(c.sampler+" "+c.parent, func(t *testing.T) {
			set := traced(t, c.sampler)
			tracer := set.Tracers.Tracer("test")
			ctx, span := tracer.Start(set.Extract(t.Context(), wire.Trace{Parent: c.parent}), "work")
			if span.IsRecording() != c.recorded {
				t.Fatalf("recorded is %t", span.IsRecording())
			}
			// All below it in the process is as it is, and is of its trace.
			below, child := tracer.Start(ctx, "part")
			if child.IsRecording() != c.recorded || child.SpanContext().TraceID() != span.SpanContext().TraceID() || !child.SpanContext().IsValid() {
				t.Errorf("below: recorded %t, %v", child.IsRecording(), child.SpanContext())
			}
			if !c.recorded && child.SpanContext().SpanID() != span.SpanContext().SpanID() {
				t.Error("a span that nobody is told of was made")
			}
			// A reply that comes back sampled has spans, though the call had none.
			_, receive := tracer.Start(set.Extract(below, wire.Trace{Parent: sampled}), "receive")
			if want := c.recorded || c.sampler != "always_off"; receive.IsRecording() != want {
				t.Errorf("below a reply that is sampled: recorded %t, want %t", receive.IsRecording(), want)
			}
		})
	}
}

// A call that is not sampled is not described: its trace is passed on in place of one that the caller may have named, and that is all.
func TestCallsThatAreNotSampledPassTheTraceOn(t *testing.T) {
	set := traced(t, "parentbased_traceidratio")
	info := &stats.RPCTagInfo{FullMethodName: "/echo.Echo/Unary"}
	incoming := metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", leftOut, "tracestate", "vendor=value", "baggage", "who=me"))
	server, client := set.ServerHandlers("")[0], set.ClientHandlers()[0]
	within := server.TagRPC(incoming, info)
	if s := trace.SpanContextFromContext(within); s.SpanID().String() != "00f067aa0ba902b7" || s.IsSampled() {
		t.Errorf("the server is within %v", s)
	}
	call := metadata.NewOutgoingContext(telemetry.WithClientAttributes(within, attribute.Int("n", 1)), metadata.Pairs("traceparent", "an older one", "k", "v"))
	out, _ := metadata.FromOutgoingContext(client.TagRPC(call, info))
	for name, want := range map[string]string{"traceparent": leftOut, "tracestate": "vendor=value", "baggage": "who=me", "k": "v"} {
		if got := out.Get(name); len(got) != 1 || got[0] != want {
			t.Errorf("the service got %s %q, not %q", name, got, want)
		}
	}
	// otelgrpc would describe the service's address.
	header := &stats.OutHeader{Client: true, RemoteAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
	if n := testing.AllocsPerRun(100, func() { client.HandleRPC(within, header) }); n != 0 {
		t.Errorf("an event of a call that is not sampled allocates %v times", n)
	}
	// The metadata is copied, and the headers are written. With otelgrpc it is twice as much.
	if n := testing.AllocsPerRun(100, func() { client.TagRPC(call, info) }); n > 14 {
		t.Errorf("the beginning of an attempt that is not sampled allocates %v times", n)
	}
}
