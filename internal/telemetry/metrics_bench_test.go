package telemetry_test

import (
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
)

// BenchmarkMetrics is all that is recorded of one unary call on its way through the program.
func BenchmarkMetrics(b *testing.B) {
	const method, target = "grpc.examples.echo.Echo/UnaryEcho", "127.0.0.1:50051"
	m, err := telemetry.NewMetrics(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())), topology.Methods{method: {}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		done := m.Begun(method, "echo-requests")
		for _, stage := range []telemetry.Stage{telemetry.StageTopic, telemetry.StageQueue, telemetry.StageCall, telemetry.StageReply, telemetry.StageWhole} {
			m.Took(method, stage, time.Millisecond)
		}
		m.Attempted(method, target, 1, codes.OK)
		m.Answered(method, "echo-requests", telemetry.ResultExecuted, codes.OK)
		done(codes.OK)
	}
}
