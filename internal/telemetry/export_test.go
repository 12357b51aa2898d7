package telemetry

import "google.golang.org/grpc/stats"

// DropEvent counts an event that was not printed.
func DropEvent(m *Metrics) { m.eventDropped() }

// ServerRecorder is the handler that records the calls of a server.
func (t *Telemetry) ServerRecorder(binding string) stats.Handler {
	return serverRecorder{recording{}, t.recorders[binding]}
}

// ClientRecorder is the handler that records the attempts of a client.
func ClientRecorder() stats.Handler { return clientRecorder{} }
