package grpcin

import (
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/wire"
)

// pass gives the caller one message. The first one's headers are the initial metadata.
func (s *Server) pass(stream grpc.ServerStream, c *call, r wire.Record) error {
	if err := s.begin(stream, c, r); err != nil {
		return err
	}
	return stream.SendMsg(&r.Value)
}

func (s *Server) begin(stream grpc.ServerStream, c *call, r wire.Record) error {
	if c.begun {
		return nil
	}
	c.begun = true
	reply, err := c.route.Contract.DecodeReply(r.Headers)
	if err != nil {
		return s.malformed(c, r, err)
	}
	s.observeReply(stream.Context(), c, r, reply.Trace)
	return stream.SetHeader(reply.Metadata.MD())
}

// end gives the caller the status. Of a method with one reply, that is given now as well: which one counts is known
// only at the end.
func (s *Server) end(stream grpc.ServerStream, c *call, w *waiter, r wire.Record) error {
	end, err := c.route.Contract.DecodeReply(r.Headers)
	if err != nil {
		return s.malformed(c, r, err)
	}
	message, ok := s.options.Calls.single(w)
	first := r
	switch {
	case ok:
		first = message
	case w.single && end.Status == codes.OK:
		return s.malformed(c, r, errors.New("the call ended with OK, but without a message"))
	}
	if err := s.begin(stream, c, first); err != nil {
		return err
	}
	// Rich error details are among the trailers, and grpc-go leaves them as they are.
	stream.SetTrailer(end.Trailers.MD())
	if end.Status != codes.OK {
		return status.Error(end.Status, end.Message)
	}
	if ok {
		return stream.SendMsg(&message.Value)
	}
	return nil
}

func (s *Server) malformed(c *call, r wire.Record, err error) error {
	s.warn(c, "a reply record is malformed", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
	return status.Errorf(codes.Internal, "the reply in topic %q, partition %d, offset %d is malformed: %v", r.Topic, r.Partition, r.Offset, err)
}
