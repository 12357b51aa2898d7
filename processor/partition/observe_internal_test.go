package partition

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// observing notes all that becomes of a request that is answered with a call, where nothing is traced.
func observing(tb testing.TB) func() {
	b, err := NewBinding(Config{Telemetry: telemetry.Off()})
	if err != nil {
		tb.Fatal(err)
	}
	if options := b.config.Telemetry.ClientOptions(); len(options) > 0 {
		tb.Errorf("%d options of the client look at each attempt", len(options))
	}
	o := CallObserver{Metrics: b.config.Telemetry.Metrics}
	const method = "grpc.examples.echo.Echo/UnaryEcho"
	a := &attempt{method: method, request: wire.Request{
		CorrelationID: "key-132e6a3c3cd99bf490609dd2718acc8a",
		Trace:         wire.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Baggage: "who=me"},
	}}
	return func() {
		a.read = time.Time{}
		b.begin(a)
		ctx := o.Attempt(a.traced(tb.Context()), "", 1, false)
		o.Attempted(method, grpcout.Target{}, grpcout.Result{Attempts: 1})
		sent := b.observeReply(a, codes.OK, "")
		trace := b.replyTrace(a)
		sent(0, 1, nil)
		if ctx != tb.Context() || a.process != nil || trace != (wire.Trace{}) {
			tb.Error("the request is traced")
		}
	}
}

func TestObservingIsCheapWithoutTracing(t *testing.T) {
	if n := testing.AllocsPerRun(100, observing(t)); n > 1 { // what is called when Kafka has the reply
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
