package grpcin

import (
	"context"
	"errors"
	"io"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Services calls the services that routes lead to without Kafka. It must be safe for concurrent use.
type Services interface {
	// Call makes a call, once, and waits for its end, which that of ctx must bring about. The deadline is that of ctx, and is sent along.
	Call(ctx context.Context, t topology.Target, p Passed) Outcome
}

// Passed is a call that is passed on as it comes.
type Passed struct {
	Method   string      // "package.Service/Method"
	Metadata metadata.MD // as it came: what belongs to the caller's connection must not be sent

	// Next gives the caller's next message, and io.EOF after the last one. It waits for it until ctx ends. That it is called
	// means that the message before was written.
	Next func(ctx context.Context) ([]byte, error)

	// Begin takes the initial metadata of the service, when there is some, before the first message, and Receive each message.
	// An error of them ends the call.
	Begin   func(header metadata.MD) error
	Receive func(message []byte) error
}

// Outcome is how a call of [Services] ended.
type Outcome struct {
	Status  codes.Code
	Message string
	Trailer metadata.MD // with rich error details
}

// direct is a call that is passed on to a service without Kafka.
type direct struct {
	*call
	server *Server
	stream grpc.ServerStream

	cancel   context.CancelCauseFunc // of the call to the service
	messages chan []byte             // of the caller; closed after the last one
	counted  int                     // bytes of the message that Next gave, which count until they are written
}

// direct answers a call with what the service of its route does.
func (s *Server) direct(stream grpc.ServerStream, route topology.NorthRoute, name string, until time.Time) (err error) {
	d := &direct{call: s.newDirectCall(stream.Context(), route, name), server: s, stream: stream, messages: make(chan []byte)}
	d.until = until
	defer func() { d.done(err) }()
	ctx, cancel := context.WithCancelCause(s.options.Telemetry.WithBinding(stream.Context(), route.Binding))
	d.cancel = cancel
	limit, stop := s.limit(ctx, d.call)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.watch(ctx, limit)
	}()
	defer func() {
		cancel(nil)
		<-ended
	}()
	s.receivers.Go(d.receive) // it ends soon after the handler, which ends its stream
	md, _ := metadata.FromIncomingContext(ctx)
	passed := Passed{Method: name, Metadata: md, Next: d.next, Begin: d.begin, Receive: d.pass}
	var outcome Outcome
	if route.Target.Scheme == topology.Echo {
		outcome = echoed(ctx, passed)
	} else {
		outcome = s.options.Services.Call(ctx, *route.Target, passed)
		s.options.Telemetry.Metrics.Attempted(name, route.Target.Address, 1, outcome.Status)
	}
	s.options.Calls.requests.remove(d.counted)
	if cause := context.Cause(ctx); outcome.Status == codes.Canceled && status.Code(cause) != codes.Unknown && cause != nil {
		return cause // it was ended here
	}
	return d.end(outcome)
}

// echoed answers a call with its own messages.
func echoed(ctx context.Context, p Passed) Outcome {
	for {
		message, err := p.Next(ctx)
		if errors.Is(err, io.EOF) {
			return Outcome{}
		}
		if err == nil {
			err = p.Receive(message)
		}
		if err != nil {
			return Outcome{Status: codes.Canceled, Message: err.Error()}
		}
	}
}

// newDirectCall begins with what telemetry tells of the call. Its spans are those of the server and of the client.
func (s *Server) newDirectCall(ctx context.Context, route topology.NorthRoute, name string) *call {
	method, known := s.table.Load().methods[name]
	c := &call{route: route, request: nameOf(name), sends: !known || method.ClientStreams, answers: !known || method.ServerStreams}
	c.since, c.offset = time.Now(), -1
	md, _ := metadata.FromIncomingContext(ctx)
	c.request.Trace.Parent = first(md, "traceparent")
	counted := s.options.Telemetry.Metrics.Begun(name, "")
	c.done = func(err error) {
		code := status.Code(err)
		counted(code)
		s.options.Telemetry.Events.Print(telemetry.Event{
			Name: "call", Binding: s.options.Listener.Binding, Method: name, Target: route.Target.Address, Offset: -1,
			Status: code, Took: time.Since(c.since), Span: trace.SpanContextFromContext(ctx), Caller: c.request.Trace,
		})
	}
	return c
}

func first(md metadata.MD, name string) string {
	if values := md[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// watch ends a call that must not go on, until its end.
func (d *direct) watch(ctx context.Context, limit *time.Timer) {
	ended, stop := d.ends()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			d.cancel(errTokenEnded)
		case <-d.server.stopping:
			d.cancel(errStoppingDirect)
		case <-limit.C:
			if !d.server.renew(limit, d.call) {
				d.cancel(d.server.limitError(d.call))
			}
		}
	}
}

var errStoppingDirect = status.Error(codes.Unavailable, "the server is stopping")

// receive takes the caller's messages.
func (d *direct) receive() {
	ctx, intake := d.stream.Context(), d.server.options.Calls.requests
	for {
		err := intake.room(ctx)
		var message []byte
		if err == nil {
			err = d.stream.RecvMsg(&message)
		}
		if errors.Is(err, io.EOF) {
			close(d.messages)
			return
		}
		if err != nil {
			d.cancel(err)
			return
		}
		d.touch()
		intake.add(len(message))
		select {
		case d.messages <- message:
		case <-ctx.Done():
			intake.remove(len(message))
			return
		}
	}
}

func (d *direct) next(ctx context.Context) ([]byte, error) {
	d.server.options.Calls.requests.remove(d.counted)
	d.counted = 0
	select {
	case message, ok := <-d.messages:
		if !ok {
			return nil, io.EOF
		}
		d.counted = len(message)
		return message, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *direct) begin(header metadata.MD) error {
	ctx := d.stream.Context()
	fitting, left := fitMetadata(ctx, wire.FromMD(header))
	d.cut(left, false)
	// Not by the stream, which refuses what is not printable ASCII.
	return grpc.SendHeader(ctx, fitting.MD())
}

func (d *direct) pass(message []byte) error {
	d.touch()
	return d.stream.SendMsg(&message)
}

// end is the status of the service.
func (d *direct) end(o Outcome) error {
	ctx := d.stream.Context()
	trailers, problem := agreeing(o.Status, wire.FromMD(o.Trailer))
	if problem != "" {
		d.server.warn(d.call, "a trailer of a service is left out", "target", d.route.Target.Address, "problem", problem)
	}
	text, trailers, left := fitStatus(ctx, o.Message, trailers)
	d.cut(left, text != o.Message)
	if err := grpc.SetTrailer(ctx, trailers.MD()); err != nil {
		return err // the call has ended
	}
	return status.Error(o.Status, text) // nil for OK
}

// cut tells what the caller does not get because its side takes no larger header lists.
func (d *direct) cut(left int, clipped bool) {
	if left > 0 || clipped {
		d.server.warn(d.call, "an answer is cut to the header list that the caller takes", "target", d.route.Target.Address,
			"left_out", left, "message_clipped", clipped, "limit", headerListOf(d.stream.Context()))
	}
}
