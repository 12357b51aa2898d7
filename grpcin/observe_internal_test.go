package grpcin

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

type streamOf struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamOf) Context() context.Context { return s.ctx }

// observing notes all that becomes of a call, where nothing is traced.
func observing(tb testing.TB) func() {
	s := &Server{options: Options{Telemetry: telemetry.Off()}}
	s.tracer = s.options.Telemetry.Tracers.Tracer("")
	if options := s.options.Telemetry.ServerOptions(""); len(options) > 0 {
		tb.Errorf("%d options of the server look at each call", len(options))
	}
	var stream grpc.ServerStream = streamOf{ctx: tb.Context()}
	trace := wire.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Baggage: "who=me"}
	c := &call{request: wire.Request{Service: "grpc.examples.echo.Echo", Method: "UnaryEcho", CorrelationID: "key-132e6a3c3cd99bf490609dd2718acc8a", Trace: trace}}
	return func() {
		s.observe(stream, c)
		c.sent(0, 1, nil)
		s.observeReply(stream.Context(), c, wire.Record{}, trace)
		c.observeEnd(nil)
		if c.send != nil || c.receive != nil || c.request.Trace != trace {
			tb.Error("the call is traced")
		}
	}
}

func TestObservingIsCheapWithoutTracing(t *testing.T) {
	if n := testing.AllocsPerRun(100, observing(t)); n > 2 { // the name of the method, and what is called at the end
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObservingWithoutTracing(b *testing.B) {
	observe := observing(b)
	b.ReportAllocs()
	for b.Loop() {
		observe()
	}
}
