package grpcin_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/internal/wire"
)

// The reply may come before Kafka's acknowledgement of the request does; the span still tells where the request lies.
func TestSendEndsWithTheAcknowledgement(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	k := &slowKafka{}
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Senders = map[string]grpcin.Sender{"kafka_client": k}
		o.Telemetry = telemetry.Off()
		o.Telemetry.Tracers, o.Telemetry.Tracing = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)), true
	})
	ctx := withPatience(t)
	results := make(chan result, 1)
	go func() { results <- f.call(ctx, unary, "hi") }()
	eventually(t, "the request is on its way", func() bool { return k.written() == 2 })
	r := request(t, k.records[0])
	reply := wire.Reply{CorrelationID: r.CorrelationID, Call: r.Call}
	f.calls.Deliver(message(reply, "hi"))
	f.calls.Deliver(end(reply))
	if r := <-results; r.Status != codes.OK {
		t.Fatalf("%+v", r)
	}
	eventually(t, "the call has ended", func() bool { return len(spans.GetSpans().Snapshots()) > 0 && f.calls.Waiting() == 0 })
	k.acknowledge()
	eventually(t, "the span of the request tells its offset", func() bool {
		for _, s := range spans.GetSpans() {
			for _, a := range s.Attributes {
				if s.Name == "send "+requests && a.Key == "messaging.kafka.offset" {
					return true
				}
			}
		}
		return false
	})
}
