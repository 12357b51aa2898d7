package telemetry_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

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

// Calls pass the trace on in place of one that the caller may have named, whether they are sampled or not.
func TestCallsPassTheTraceOn(t *testing.T) {
	set := traced(t, "parentbased_traceidratio")
	var got metadata.MD
	service := dial(t, func(stream grpc.ServerStream) error {
		got, _ = metadata.FromIncomingContext(stream.Context())
		return answered(stream)
	}, nil, set.ClientOptions()...)
	for parent, wantSampled := range map[string]bool{leftOut: false, sampled: true} {
		for kind, call := range map[string]func(context.Context, *grpc.ClientConn) error{"unary": unary, "stream": stream} {
			t.Run(fmt.Sprint(kind, " sampled ", wantSampled), func(t *testing.T) {
				var inside trace.SpanContext
				north := dial(t, func(stream grpc.ServerStream) error {
					inside = trace.SpanContextFromContext(stream.Context())
					ctx := telemetry.WithClientAttributes(stream.Context(), attribute.Int("n", 1))
					if err := call(metadata.NewOutgoingContext(ctx, metadata.Pairs("traceparent", "an older one", "k", "v")), service); err != nil {
						return err
					}
					return answered(stream)
				}, set.ServerOptions(""))
				incoming := metadata.Pairs("traceparent", parent, "tracestate", "vendor=value", "baggage", "who=me%C3%A9")
				if err := call(metadata.NewOutgoingContext(t.Context(), incoming), north); err != nil {
					t.Fatal(err)
				}
				if inside.TraceID().String() != above[3:35] || inside.IsSampled() != wantSampled || (inside.SpanID().String() == above[36:52]) == wantSampled {
					t.Errorf("the server is within %v", inside)
				}
				for name, want := range map[string]string{"tracestate": "vendor=value", "baggage": "who=me%C3%A9", "k": "v"} {
					if value := got.Get(name); len(value) != 1 || value[0] != want {
						t.Errorf("the service got %s %q, not %q", name, value, want)
					}
				}
				parents := got.Get("traceparent")
				switch {
				case len(parents) != 1 || !strings.HasPrefix(parents[0], above[:36]):
					t.Errorf("the service got traceparent %q", parents)
				case !wantSampled && parents[0] != parent:
					t.Errorf("the service got traceparent %s, not %s", parents[0], parent)
				case wantSampled && (parents[0] == parent || strings.Contains(parents[0], inside.SpanID().String())):
					t.Errorf("the service got traceparent %s, which is not that of the attempt", parents[0])
				}
			})
		}
	}
}

// An attempt that is not sampled is not described, and nothing of it is told.
func TestAttemptsThatAreNotSampledAreCheap(t *testing.T) {
	set := traced(t, "parentbased_traceidratio")
	within := set.Extract(t.Context(), wire.Trace{Parent: leftOut, State: "vendor=value", Baggage: "who=me"})
	call := metadata.NewOutgoingContext(telemetry.WithClientAttributes(within, attribute.Int("n", 1)), metadata.Pairs("traceparent", "an older one", "k", "v"))
	begin := set.Attempts()
	if _, options := begin(call, calledMethod); len(options) > 0 {
		t.Errorf("%d options look at a call that is not sampled", len(options))
	}
	// The metadata is copied, and the headers are written. With otelgrpc it is twice as much.
	if n := testing.AllocsPerRun(100, func() { begin(call, calledMethod) }); n > 14 {
		t.Errorf("the beginning of an attempt that is not sampled allocates %v times", n)
	}
}

// dial connects to a server that answers all calls so.
func dial(t *testing.T, answer func(grpc.ServerStream) error, serves []grpc.ServerOption, dials ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(append(serves, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return answer(stream) }))...)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(serving.Wait)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///service", append(dials, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func answered(stream grpc.ServerStream) error {
	if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	return stream.SendMsg(new(emptypb.Empty))
}

const calledMethod = "/echo.Echo/Call"

func unary(ctx context.Context, conn *grpc.ClientConn) error {
	return conn.Invoke(ctx, calledMethod, new(emptypb.Empty), new(emptypb.Empty))
}

func stream(ctx context.Context, conn *grpc.ClientConn) error {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, calledMethod)
	if err != nil {
		return err
	}
	if err := s.SendMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		if err := s.RecvMsg(new(emptypb.Empty)); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
