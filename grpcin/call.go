package grpcin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/wire"
	"kafkagrpc/topology"
)

// call is one attempt of a caller.
type call struct {
	route   topology.NorthRoute
	request wire.Request
	message []byte // never nil
}

var errStopping = status.Error(codes.Unavailable, "the server is stopping; try again with the same idempotency key")

// serve answers one call. The error is its status.
func (s *Server) serve(stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	name = strings.TrimPrefix(name, "/")
	route, err := s.route(name)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	request, err := newRequest(ctx, route, name)
	if err != nil {
		return err
	}
	// Before anything is sent: the answer may come before Kafka's acknowledgement does.
	w, err := s.options.Calls.wait(request.ReplyTo, request.CorrelationID, request.Call)
	if err != nil {
		return err
	}
	defer s.options.Calls.forget(w)
	message, err := receive(stream)
	if err != nil {
		return err
	}
	if _, limited := ctx.Deadline(); !limited {
		// After newRequest, because this limit is ours and not the caller's.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.options.MaxWait)
		defer cancel()
	}
	c := call{route, request, message}
	if route.ReplyTo == "" {
		return s.oneWay(ctx, stream, c)
	}
	return s.exchange(ctx, stream, c, w)
}

func (s *Server) route(name string) (topology.NorthRoute, error) {
	for _, r := range s.options.Listener.Routes {
		if !r.Matches(name) {
			continue
		}
		if m, known := s.options.Methods[name]; known && !m.Unary() {
			return r, status.Errorf(codes.Unimplemented, "method %s: streaming calls are not supported yet", name)
		}
		return r, nil
	}
	return topology.NorthRoute{}, status.Errorf(codes.Unimplemented, "method %s: no route takes it", name)
}

// newRequest is what the headers of the call's records say.
func newRequest(ctx context.Context, route topology.NorthRoute, name string) (wire.Request, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	m := wire.FromMD(md)
	key, given := m.Get(route.Contract.IdempotencyMetadata)
	if !given {
		key = newUUID()
	} else if err := wire.CheckIdempotencyKey(key); err != nil {
		return wire.Request{}, status.Errorf(codes.InvalidArgument, "metadata %s: %v", route.Contract.IdempotencyMetadata, err)
	}
	slash := strings.LastIndexByte(name, '/') // grpc-go refuses names without one
	r := wire.Request{Service: name[:slash], Method: name[slash+1:], ReplyTo: route.ReplyTo, Call: rand.Text(), Metadata: m}
	r.CorrelationID = route.Contract.ScopeID(key, r.Service, r.Method, r.ReplyTo, nil)
	r.Deadline, _ = ctx.Deadline()
	// There is no span of our own: it was the caller's that made the records.
	r.Trace.Parent, _ = m.Get("traceparent")
	r.Trace.State, _ = m.Get("tracestate")
	return r, nil
}

// newUUID is a random UUID, version 4.
func newUUID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// receive takes the one message of the call. Its errors are those of grpc-go for unary methods.
func receive(stream grpc.ServerStream) ([]byte, error) {
	var message, second []byte
	err := stream.RecvMsg(&message)
	if errors.Is(err, io.EOF) {
		return nil, status.Error(codes.Internal, "a unary call takes one message; none came")
	}
	if err != nil {
		return nil, err
	}
	err = stream.RecvMsg(&second)
	if err == nil {
		return nil, status.Error(codes.Internal, "a unary call takes one message; a second one came")
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return message, nil
}

// exchange writes the call to its topic and waits for the answer.
func (s *Server) exchange(ctx context.Context, stream grpc.ServerStream, c call, w *waiter) error {
	headers := c.route.Contract.EncodeRequest(c.request, nil)
	failures := make(chan error, 2)
	done := func(_ int64, err error) {
		if err != nil {
			failures <- err
		}
	}
	s.send(c, c.message, headers, done)
	s.send(c, nil, headers, done) // the caller's half-close
	select {
	case a := <-w.answers:
		return s.answer(stream, c, a)
	case err := <-failures:
		return s.sendError(c, err)
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-s.stopping:
		return errStopping
	}
}

// oneWay writes the call to its topic; Kafka's acknowledgement is the answer.
func (s *Server) oneWay(ctx context.Context, stream grpc.ServerStream, c call) error {
	// Nobody answers, so nothing but the metadata concerns a reader.
	headers := c.route.Contract.EncodeRequest(wire.Request{Metadata: c.request.Metadata}, nil)
	sent := make(chan error, 1)
	s.send(c, c.message, headers, func(_ int64, err error) { sent <- err })
	select {
	case err := <-sent:
		if err != nil {
			return s.sendError(c, err)
		}
		return stream.SendMsg(&[]byte{})
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-s.stopping:
		return errStopping
	}
}

func (s *Server) send(c call, value []byte, headers []wire.Header, done func(int64, error)) {
	s.options.Senders[c.route.Cluster.Binding].Send(wire.Record{
		Topic: c.route.Topic, Key: []byte(c.request.CorrelationID), Value: value, Headers: headers,
	}, done)
}

func (s *Server) sendError(c call, err error) error {
	code := codes.Unavailable
	if s.options.Rejected(err) {
		code = codes.Internal
	}
	s.options.Log.Warn("a call could not be written to Kafka", "topic", c.route.Topic,
		"method", c.request.FullMethod(), "correlation_id", c.request.CorrelationID, "code", code.String(), "error", err)
	return status.Errorf(code, "the call could not be written to topic %q: %v", c.route.Topic, err)
}

// answer gives the caller what the records of a reply say.
func (s *Server) answer(stream grpc.ServerStream, c call, a answer) error {
	end, err := c.route.Contract.DecodeReply(a.end.Headers)
	if err != nil {
		return s.malformed(c, a.end, err)
	}
	initial := end.Metadata
	if a.hasMessage {
		message, err := c.route.Contract.DecodeReply(a.message.Headers)
		if err != nil {
			return s.malformed(c, a.message, err)
		}
		initial = message.Metadata
	} else if end.Status == codes.OK {
		return s.malformed(c, a.end, errors.New("the call ended with OK, but without a message"))
	}
	if err := stream.SetHeader(initial.MD()); err != nil {
		return err
	}
	// Rich error details are among the trailers, and grpc-go leaves them as they are.
	stream.SetTrailer(end.Trailers.MD())
	if end.Status != codes.OK {
		return status.Error(end.Status, end.Message)
	}
	return stream.SendMsg(&a.message.Value)
}

func (s *Server) malformed(c call, r wire.Record, err error) error {
	s.options.Log.Warn("a reply record is malformed", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset,
		"method", c.request.FullMethod(), "correlation_id", c.request.CorrelationID, "error", err)
	return status.Errorf(codes.Internal, "the reply in topic %q, partition %d, offset %d is malformed: %v", r.Topic, r.Partition, r.Offset, err)
}
