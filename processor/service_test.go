package processor_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/wire/rawcodec"
)

// fakeService is a gRPC service that answers as the test says.
type fakeService struct {
	addr   string
	server *grpc.Server

	mu      sync.Mutex
	answer  func(ctx context.Context, call received) ([]byte, error) // nil: echo
	stream  func(stream grpc.ServerStream) error                     // instead, for all methods but UnaryEcho; nil: echo each message
	calls   []received
	arrived chan struct{} // one token a call
}

// received is one call that the service got.
type received struct {
	method   string
	message  string
	metadata metadata.MD
	deadline time.Duration // left, 0 without one
	stream   grpc.ServerStream
}

func startFakeService(t testing.TB) *fakeService {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeService{addr: listener.Addr().String(), arrived: make(chan struct{}, 1_000_000)}
	s.server = grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(s.handle))
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(listener) }()
	t.Cleanup(func() {
		s.server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *fakeService) handle(_ any, stream grpc.ServerStream) error {
	if method, _ := grpc.MethodFromServerStream(stream); !strings.HasSuffix(method, "/UnaryEcho") && !strings.HasSuffix(method, "/Place") {
		return s.handleStream(method, stream)
	}
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	method, _ := grpc.MethodFromServerStream(stream)
	md, _ := metadata.FromIncomingContext(stream.Context())
	call := received{method: method, message: string(message), metadata: md, stream: stream}
	if d, ok := stream.Context().Deadline(); ok {
		call.deadline = time.Until(d)
	}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	answer := s.answer
	s.mu.Unlock()
	s.arrived <- struct{}{}
	if answer != nil {
		var err error
		if message, err = answer(stream.Context(), call); err != nil {
			return err
		}
	}
	return stream.SendMsg(&message)
}

// handleStream is for methods whose messages flow. The call is received when it begins; its message stays empty.
func (s *fakeService) handleStream(method string, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	call := received{method: method, metadata: md, stream: stream}
	if d, ok := stream.Context().Deadline(); ok {
		call.deadline = time.Until(d)
	}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	serve := s.stream
	s.mu.Unlock()
	s.arrived <- struct{}{}
	if serve != nil {
		return serve(stream)
	}
	return echoAll(stream)
}

// echoAll echoes each message of a stream as it comes.
func echoAll(stream grpc.ServerStream) error {
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

// serves says what the service does with streams.
func (s *fakeService) serves(f func(grpc.ServerStream) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = f
}

func (s *fakeService) answers(f func(context.Context, received) ([]byte, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// received are the calls so far.
func (s *fakeService) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.calls...)
}

// wait waits for n further calls to have arrived.
func (s *fakeService) wait(t testing.TB, n int) {
	t.Helper()
	deadline := time.After(patience)
	for range n {
		select {
		case <-s.arrived:
		case <-deadline:
			t.Fatalf("the service got %d calls", len(s.received()))
		}
	}
}

// gateFor makes the unary calls with a message wait until it is opened. All others are answered with theirs.
func (s *fakeService) gateFor(message string) (open func()) {
	gate := make(chan struct{})
	s.answers(func(ctx context.Context, call received) ([]byte, error) {
		if call.message == message {
			select {
			case <-gate:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return []byte(call.message), nil
	})
	return sync.OnceFunc(func() { close(gate) })
}

// gate makes every call wait until it is opened.
func (s *fakeService) gate() (open func()) {
	gate := make(chan struct{})
	s.answers(func(ctx context.Context, call received) ([]byte, error) {
		select {
		case <-gate:
			return []byte(call.message), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	s.serves(func(stream grpc.ServerStream) error {
		select {
		case <-gate:
			return echoAll(stream)
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	})
	return sync.OnceFunc(func() { close(gate) })
}
