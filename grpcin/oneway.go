package grpcin

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// oneWay writes the call to its topic; Kafka's acknowledgement is the answer.
func (s *Server) oneWay(stream grpc.ServerStream, c *call) error {
	defer c.out.close()
	ctx := stream.Context()
	received := s.receive(stream, c)
	limit, stop := s.limit(ctx, c)
	defer stop()
	ended, stopEnded := c.ends()
	defer stopEnded()
	for {
		select {
		case err := <-received:
			if err != nil {
				return err
			}
			received = nil
			c.out.complete()
		case err := <-c.out.failed:
			return s.sendError(c, err)
		case <-c.out.completed:
			return stream.SendMsg(&[]byte{})
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-limit.C:
			if !s.renew(limit, c) {
				return s.limitError(c)
			}
		case <-ended:
			return errTokenEnded
		case <-s.stopping:
			return errStopping
		}
	}
}
