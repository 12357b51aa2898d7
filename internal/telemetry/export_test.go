package telemetry

import (
	"context"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// DropEvent counts an event that was not printed.
func DropEvent(m *Metrics) { m.eventDropped() }

// ServerRecorder is the handler that records the calls of a server.
func (t *Telemetry) ServerRecorder(binding string) stats.Handler {
	return serverRecorder{recording{}, t.recorders[binding]}
}

// ClientRecorder is the handler that records the attempts of a client.
func ClientRecorder() stats.Handler { return clientRecorder{} }

// Attempts begins attempts as the interceptors of a client do.
func (t *Telemetry) Attempts() func(ctx context.Context, method string) (context.Context, []grpc.CallOption) {
	spans := clientSpans{t.rpc(Client, otelgrpc.NewClientHandler)}
	return func(ctx context.Context, method string) (context.Context, []grpc.CallOption) {
		return spans.begin(ctx, method, nil)
	}
}
