package grpcin

import (
	"context"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// healthService answers health checks. Watches end when the server begins to stop, which would wait for them.
type healthService struct {
	*health.Server
	running context.Context // ends when the server begins to stop
	end     context.CancelFunc
}

func newHealthService() *healthService {
	h := &healthService{Server: health.NewServer()}
	h.running, h.end = context.WithCancel(context.Background())
	h.set(false)
	return h
}

// stop says NOT_SERVING from now on.
func (h *healthService) stop() {
	h.Shutdown()
	h.end()
}

// set tells the state of the server as a whole, which is the only one that is known.
func (h *healthService) set(ready bool) {
	state := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if ready {
		state = grpc_health_v1.HealthCheckResponse_SERVING
	}
	h.SetServingStatus("", state)
}

// Watch implements the service.
func (h *healthService) Watch(r *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.running, cancel)()
	err := h.Server.Watch(r, watch{stream, ctx})
	if h.running.Err() != nil {
		return errStopping
	}
	return err
}

type watch struct {
	grpc_health_v1.Health_WatchServer
	ctx context.Context
}

func (w watch) Context() context.Context { return w.ctx }
