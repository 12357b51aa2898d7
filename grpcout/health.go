package grpcout

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// Health asks a service how it is, by the standard health service of gRPC. Its answer is a text such as "SERVING"; a service
// that does not offer health is reachable all the same. The error says why the service cannot be reached, or that it
// does not serve.
func (c *Client) Health(ctx context.Context, t Target) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, answered := c.unary(ctx, t, Call{Method: "grpc.health.v1.Health/Check"})
	switch {
	case !answered:
		return "", errors.New(r.Message)
	case r.Status == codes.Unimplemented:
		return "answers, and offers no health service", nil
	case r.Status != codes.OK:
		return fmt.Sprintf("answers; its health service says %s: %s", r.Status, r.Message), nil
	}
	var reply health.HealthCheckResponse
	if err := proto.Unmarshal(r.Messages[0], &reply); err != nil {
		return "", fmt.Errorf("reading the answer of its health service: %w", err)
	}
	switch reply.Status {
	case health.HealthCheckResponse_SERVING:
		return reply.Status.String(), nil
	case health.HealthCheckResponse_UNKNOWN: // also what a service answers that echoes whatever it is asked
		return "answers; its health is UNKNOWN", nil
	}
	return "", fmt.Errorf("its health service says %s", reply.Status)
}
