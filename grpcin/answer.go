package grpcin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/wire"
)

// pass gives the caller one message. The first one's headers are the initial metadata.
func (s *Server) pass(stream grpc.ServerStream, c *call, r wire.Record) error {
	if err := s.begin(stream, c, r); err != nil {
		return err
	}
	if why := s.unfit(c.route.Replies, r.Key, r.Value); why != "" {
		return s.malformed(c, r, errors.New(why))
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
	ctx := stream.Context()
	s.observeReply(ctx, c, r, reply.Trace)
	if r.Value != nil { // else the end tells
		s.leftOut(c, r, reply.LeftOut)
	}
	header, large := fitMetadata(ctx, reply.Metadata)
	s.tooLarge(ctx, c, r, large, false)
	// Not by the stream, which refuses what is not printable ASCII.
	return grpc.SetHeader(ctx, header.MD())
}

// end gives the caller the status. Of a method with one reply, that is given now as well: which one counts is known
// only at the end.
func (s *Server) end(stream grpc.ServerStream, c *call, w *waiter, r wire.Record) error {
	end, err := c.route.Contract.DecodeReply(r.Headers)
	if err != nil {
		return s.malformed(c, r, err)
	}
	message, ok, err := s.options.Calls.single(stream.Context(), w, s.options.Readers[c.route.Cluster.Binding])
	if err != nil {
		return s.readError(stream.Context(), c, err)
	}
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
	s.leftOut(c, r, end.LeftOut)
	// Rich error details are among the trailers, and grpc-go leaves them as they are.
	ctx := stream.Context()
	agreed, problem := agreeing(end.Status, end.Trailers)
	if problem != "" {
		s.leftOut(c, r, wire.LeftOut{Count: 1, First: problem})
	}
	text, trailers, large := fitStatus(ctx, end.Message, agreed)
	s.tooLarge(ctx, c, r, large, text != end.Message)
	if err := grpc.SetTrailer(ctx, trailers.MD()); err != nil {
		return err // the call has ended
	}
	if end.Status != codes.OK {
		return status.Error(end.Status, text)
	}
	if ok {
		if why := s.unfit(c.route.Replies, message.Key, message.Value); why != "" {
			return s.malformed(c, message, errors.New(why))
		}
		return stream.SendMsg(&message.Value)
	}
	return nil
}

// agreeing are the trailers without details that are of another status than the call's, and what is wrong with those: a caller would
// take them for it, and its status and message for lost.
func agreeing(code codes.Code, trailers wire.Metadata) (_ wire.Metadata, problem string) {
	var details spb.Status
	is := func(f wire.Field) bool { return f.Name == statusDetails }
	i := slices.IndexFunc(trailers, is)
	if i < 0 || proto.Unmarshal([]byte(trailers[i].Value), &details) != nil || codes.Code(details.Code) == code {
		return trailers, ""
	}
	return slices.DeleteFunc(trailers, is), fmt.Sprintf("%s is of status %d, the reply of %d", statusDetails, details.Code, code)
}

const statusDetails = "grpc-status-details-bin"

// leftOut tells what a record has that the caller does not get.
func (s *Server) leftOut(c *call, r wire.Record, left wire.LeftOut) {
	if left.Count > 0 {
		s.warn(c, "metadata of a reply is left out", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset,
			"left_out", left.Count, "first", left.First)
	}
}

// tooLarge tells what the caller does not get because its side takes no larger header lists.
func (s *Server) tooLarge(ctx context.Context, c *call, r wire.Record, left int, clipped bool) {
	if left > 0 || clipped {
		s.warn(c, "a reply is cut to the header list that the caller takes", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset,
			"left_out", left, "message_clipped", clipped, "limit", headerListOf(ctx))
	}
}

func (s *Server) malformed(c *call, r wire.Record, err error) error {
	s.warn(c, "a reply record is malformed", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
	return status.Errorf(codes.Internal, "the reply in topic %q, partition %d, offset %d is malformed: %v", r.Topic, r.Partition, r.Offset, err)
}
