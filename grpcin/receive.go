package grpcin

import (
	"errors"
	"io"

	"kafkagrpc/wire"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// receive writes the caller's messages to Kafka. The channel tells when its side is done: nil when all messages are
// written, else the status that it ended with.
func (s *Server) receive(stream grpc.ServerStream, c *call) <-chan error {
	done := make(chan error, 1)
	if c.sends {
		// It ends soon after the handler, which ends its stream.
		s.receivers.Go(func() {
			done <- c.out.receive(stream, func(message []byte, first bool) ([]wire.Header, error) {
				c.touch()
				return s.prepare(c, message, first)
			})
		})
		return done
	}
	var room reservation
	ctx := stream.Context()
	err := c.out.intake.reserve(ctx, &room, s.maxMessage)
	var message []byte
	if err == nil {
		message, err = receiveOne(stream)
		defer c.out.intake.received(&room) // when the message counts itself
	}
	var own []wire.Header
	if err == nil {
		own, err = s.prepare(c, message, true)
	}
	if err != nil {
		done <- err
		return done
	}
	c.out.send(message, own...)
	if c.answers {
		// A half-close whose message Kafka refuses would open a call without one. Of a method that is known as unary it
		// is no call, so that both may be in one batch.
		s.receivers.Go(func() {
			c.out.acknowledged()
			done <- nil
		})
		return done
	}
	done <- nil
	return done
}

// receiveOne takes the one message of a call. Another number of them is UNIMPLEMENTED, as gRPC's page of statuses says, and
// not INTERNAL, which grpc-go makes of it: to the caller the service has no such method.
func receiveOne(stream grpc.ServerStream) ([]byte, error) {
	var message, second []byte
	err := stream.RecvMsg(&message)
	if errors.Is(err, io.EOF) {
		return nil, status.Error(codes.Unimplemented, "the method takes one message; none came")
	}
	if err != nil {
		return nil, err
	}
	err = stream.RecvMsg(&second)
	if err == nil {
		return nil, status.Error(codes.Unimplemented, "the method takes one message; a second one came")
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return message, nil
}

func (s *Server) sendError(c *call, err error) error {
	code := codes.Unavailable
	switch {
	case s.options.TooLarge(err):
		code = codes.ResourceExhausted
	case s.options.Rejected(err):
		code = codes.Internal
	}
	s.warn(c, "a call could not be written to Kafka", "topic", c.route.Topic, "status", wire.StatusName(code), "error", err)
	return status.Errorf(code, "the call could not be written to topic %q: %v", c.route.Topic, err)
}
