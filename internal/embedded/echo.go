package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"kafkagrpc/wire/rawcodec"
)

// Metadata by which a caller tells Echo what to do.
const (
	EchoDelay   = "echo-delay-ms" // wait that long before the answer
	EchoCode    = "echo-code"     // end with this status code, a number or a name as NOT_FOUND, and the message "as asked"
	EchoCount   = "echo-count"    // ServerStreamingEcho sends that many messages, default 3
	EchoHeader  = "echo-header"   // name=value to send as initial metadata; may repeat
	EchoTrailer = "echo-trailer"  // name=value to send as trailing metadata; may repeat
)

const (
	echoCloseTimeout = 5 * time.Second
	// echoKeys bounds the memory of the counts by key: calls with further keys are counted in total only.
	echoKeys = 1_000_000
	// idempotencyKey is the metadata by which calls are counted.
	idempotencyKey = "idempotency-key"
)

// Echo is the service grpc.examples.echo.Echo of the seed's proto. UnaryEcho, ServerStreamingEcho and
// BidirectionalStreamingEcho answer messages byte by byte as they came; ClientStreamingEcho answers one message
// that joins their texts with spaces. It is safe for concurrent use.
type Echo struct {
	server   *grpc.Server
	listener net.Listener
	served   chan error

	mu       sync.Mutex // guards the counts
	calls    int
	canceled int
	byKey    map[string]int
}

// StartEcho listens on an address, host:port with 0 for a free one, and serves until Close.
func StartEcho(addr string) (*Echo, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("starting the echo service: %w", err)
	}
	e := &Echo{listener: listener, served: make(chan error, 1), byKey: map[string]int{}}
	e.server = grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}))
	e.server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "grpc.examples.echo.Echo",
		HandlerType: (*any)(nil),
		// A stream that both sides use is the general case: each handler takes from it what its method is.
		Streams: []grpc.StreamDesc{
			{StreamName: "UnaryEcho", Handler: e.handle(unary), ServerStreams: true, ClientStreams: true},
			{StreamName: "ServerStreamingEcho", Handler: e.handle(serverStreaming), ServerStreams: true, ClientStreams: true},
			{StreamName: "ClientStreamingEcho", Handler: e.handle(clientStreaming), ServerStreams: true, ClientStreams: true},
			{StreamName: "BidirectionalStreamingEcho", Handler: e.handle(bidirectional), ServerStreams: true, ClientStreams: true},
		},
		Metadata: "proto/echo.proto",
	}, e)
	go func() { e.served <- e.server.Serve(listener) }()
	return e, nil
}

// Addr is the host:port that the service listens on.
func (e *Echo) Addr() string { return e.listener.Addr().String() }

// Calls is how many calls were begun.
func (e *Echo) Calls() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls
}

// CallsOf is how many calls with that idempotency-key metadata were begun.
func (e *Echo) CallsOf(key string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byKey[key]
}

// Canceled is how many calls their caller gave up, or their deadline ended, while they waited.
func (e *Echo) Canceled() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.canceled
}

// Close stops listening, lets calls finish for up to 5 seconds and ends those that did not.
func (e *Echo) Close() error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.server.GracefulStop()
	}()
	timeout := time.NewTimer(echoCloseTimeout)
	defer timeout.Stop()
	select {
	case <-stopped:
	case <-timeout.C:
		e.server.Stop()
		<-stopped
	}
	// Serve may not have begun.
	if err := <-e.served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("the echo service on %s: %w", e.Addr(), err)
	}
	return nil
}

// handle counts a call, sends the metadata that was asked for, and ends the call as asked.
func (e *Echo) handle(kind func(grpc.ServerStream, metadata.MD) error) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		e.count(md)
		stream.SetTrailer(pairs(md[EchoTrailer]))
		if err := stream.SetHeader(pairs(md[EchoHeader])); err != nil {
			return err
		}
		err := kind(stream, md)
		if stream.Context().Err() != nil {
			e.mu.Lock()
			e.canceled++
			e.mu.Unlock()
		}
		return err
	}
}

// AnswerEcho answers a call as [Echo] does, for servers that do more with it. What was asked for is in md.
func AnswerEcho(stream grpc.ServerStream, md metadata.MD) error {
	method, _ := grpc.MethodFromServerStream(stream)
	switch strings.TrimPrefix(method, "/grpc.examples.echo.Echo/") {
	case "UnaryEcho":
		return unary(stream, md)
	case "ServerStreamingEcho":
		return serverStreaming(stream, md)
	case "ClientStreamingEcho":
		return clientStreaming(stream, md)
	case "BidirectionalStreamingEcho":
		return bidirectional(stream, md)
	}
	return status.Errorf(codes.Unimplemented, "unknown method %s", method)
}

func (e *Echo) count(md metadata.MD) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	for _, key := range md[idempotencyKey] {
		if _, known := e.byKey[key]; known || len(e.byKey) < echoKeys {
			e.byKey[key]++
		}
	}
}

func unary(stream grpc.ServerStream, md metadata.MD) error {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	if err := asAsked(stream.Context(), md); err != nil {
		return err
	}
	return stream.SendMsg(&message)
}

func serverStreaming(stream grpc.ServerStream, md metadata.MD) error {
	n, err := number(md, EchoCount, 3)
	if err != nil {
		return err
	}
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	for range n {
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	return asAsked(stream.Context(), md)
}

func clientStreaming(stream grpc.ServerStream, md metadata.MD) error {
	var texts []string
	for {
		var message []byte
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		texts = append(texts, textOf(message))
	}
	if err := asAsked(stream.Context(), md); err != nil {
		return err
	}
	answer := protowire.AppendTag(nil, textField, protowire.BytesType)
	answer = protowire.AppendString(answer, strings.Join(texts, " "))
	return stream.SendMsg(&answer)
}

func bidirectional(stream grpc.ServerStream, md metadata.MD) error {
	for {
		var message []byte
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			return asAsked(stream.Context(), md)
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

// asAsked waits and fails as the caller's metadata says.
func asAsked(ctx context.Context, md metadata.MD) error {
	delay, err := number(md, EchoDelay, 0)
	if err != nil {
		return err
	}
	if delay > 0 {
		wait := time.NewTimer(time.Duration(delay) * time.Millisecond)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if asked := md[EchoCode]; len(asked) > 0 {
		code, ok := codeOf(asked[0])
		if !ok {
			return status.Errorf(codes.InvalidArgument, "%s: %q is no status code", EchoCode, asked[0])
		}
		return status.Error(code, "as asked")
	}
	return nil
}

// codeOf reads a status code by number or name.
func codeOf(s string) (code codes.Code, ok bool) {
	if code.UnmarshalJSON([]byte(s)) == nil {
		return code, true
	}
	return code, code.UnmarshalJSON([]byte(strconv.Quote(s))) == nil
}

func number(md metadata.MD, name string, otherwise int) (int, error) {
	values := md[name]
	if len(values) == 0 {
		return otherwise, nil
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || n < 0 {
		return 0, status.Errorf(codes.InvalidArgument, "%s: %q is no number", name, values[0])
	}
	return n, nil
}

func pairs(nameValues []string) metadata.MD {
	md := metadata.MD{}
	for _, nv := range nameValues {
		name, value, _ := strings.Cut(nv, "=")
		md.Append(name, value)
	}
	return md
}

// textField is the number of the field `message` of EchoRequest and EchoResponse.
const textField = 1

// textOf is the text of an EchoRequest, "" where it is none.
func textOf(message []byte) (text string) {
	for len(message) > 0 {
		field, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			break
		}
		value := protowire.ConsumeFieldValue(field, kind, message[tag:])
		if value < 0 {
			break
		}
		if field == textField && kind == protowire.BytesType {
			text, _ = protowire.ConsumeString(message[tag:])
		}
		message = message[tag+value:]
	}
	return text
}
