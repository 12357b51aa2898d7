package grpcout_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"kafkagrpc/grpcout"
	"kafkagrpc/wire/rawcodec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that should happen at once.
const patience = 20 * time.Second

func withPatience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// service is a gRPC server that answers every method with one handler.
type service struct {
	target      grpcout.Target
	connections atomic.Int32
	server      *grpc.Server
}

type countingListener struct {
	net.Listener
	accepted *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

func serve(t testing.TB, address string, handler grpc.StreamHandler, more ...grpc.ServerOption) *service {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{
		target: grpcout.Target{Scheme: "http", Authority: "echo.example:80", Address: l.Addr().String()},
		server: grpc.NewServer(append(more, grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(handler), grpc.WaitForHandlers(true))...),
	}
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(countingListener{l, &s.connections}) }()
	t.Cleanup(func() {
		s.server.Stop()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return s
}

// receive takes the one message of a unary call.
func receive(stream grpc.ServerStream) ([]byte, error) {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return nil, err
	}
	var more []byte
	if err := stream.RecvMsg(&more); !errors.Is(err, io.EOF) {
		return nil, status.Errorf(codes.InvalidArgument, "after the message: %v", err)
	}
	return message, nil
}

func echo(_ any, stream grpc.ServerStream) error {
	message, err := receive(stream)
	if err != nil {
		return err
	}
	return stream.SendMsg(&message)
}

func newClient(t testing.TB, o grpcout.Options) *grpcout.Client {
	t.Helper()
	c := grpcout.New(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

const method = "grpc.examples.echo.Echo/UnaryEcho"

func TestUnaryPassesEverythingBothWays(t *testing.T) {
	t.Parallel()
	type seen struct {
		method  string
		md      metadata.MD
		message []byte
		timed   bool
	}
	calls := make(chan seen, 1)
	s := serve(t, "127.0.0.1:0", func(_ any, stream grpc.ServerStream) error {
		name, _ := grpc.MethodFromServerStream(stream)
		md, _ := metadata.FromIncomingContext(stream.Context())
		message, err := receive(stream)
		if err != nil {
			return err
		}
		_, timed := stream.Context().Deadline()
		calls <- seen{name, md, message, timed}
		stream.SetTrailer(metadata.MD{"t": {"2", "1"}, "t-bin": {"\xff\x00"}})
		if err := stream.SetHeader(metadata.MD{"h": {"2", "1"}, "h-bin": {"\x00\xff"}}); err != nil {
			return err
		}
		return stream.SendMsg(&[]byte{0x0a, 0x00})
	})
	c := newClient(t, grpcout.Options{})
	r := c.Unary(withPatience(t), s.target, grpcout.Call{
		Method: method,
		Metadata: metadata.MD{
			"x": {"2", "1"}, "X-Upper": {"u"}, "x-bin": {"\x00\xff", ""},
			":path": {"/evil"}, "grpc-timeout": {"1n"}, "grpc-status": {"3"}, "content-type": {"text/html"}, "user-agent": {"evil"}, "te": {"x"}, "grpc-x": {"y"},
		},
		Message: []byte{0x0a, 0x01, 'x'},
	})
	want := grpcout.Result{
		Header:   metadata.MD{"h": {"2", "1"}, "h-bin": {"\x00\xff"}},
		Trailer:  metadata.MD{"t": {"2", "1"}, "t-bin": {"\xff\x00"}},
		Messages: [][]byte{{0x0a, 0x00}},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Fatalf("result (-want +got):\n%s", diff)
	}
	call := <-calls
	if call.method != "/"+method || !bytes.Equal(call.message, []byte{0x0a, 0x01, 'x'}) || !call.timed {
		t.Errorf("the service saw %+v", call)
	}
	if agent := call.md.Get("user-agent"); len(agent) != 1 || !strings.HasPrefix(agent[0], "kafka-grpc ") {
		t.Errorf("user-agent = %q", agent)
	}
	for _, name := range []string{"user-agent", "grpc-accept-encoding"} {
		delete(call.md, name) // of this hop
	}
	wantMD := metadata.MD{
		"x": {"2", "1"}, "x-upper": {"u"}, "x-bin": {"\x00\xff", ""},
		":authority": {"echo.example:80"}, "content-type": {"application/grpc+proto"},
	}
	if diff := cmp.Diff(wantMD, call.md); diff != "" {
		t.Errorf("metadata at the service (-want +got):\n%s", diff)
	}
}

func TestUnaryResults(t *testing.T) {
	t.Parallel()
	rich, err := status.New(codes.FailedPrecondition, "größer 100%").WithDetails(durationpb.New(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	details, err := proto.Marshal(rich.Proto())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		handler grpc.StreamHandler
		message []byte
		want    grpcout.Result
	}{
		{"empty message", echo, []byte{}, grpcout.Result{Messages: [][]byte{{}}}},
		{"nil is an empty message", echo, nil, grpcout.Result{Messages: [][]byte{{}}}},
		{"a message of 3 MiB", echo, make([]byte, 3<<20), grpcout.Result{Messages: [][]byte{make([]byte, 3<<20)}}},
		{
			"rich error", func(any, grpc.ServerStream) error { return rich.Err() }, nil,
			grpcout.Result{
				Status: codes.FailedPrecondition, Message: "größer 100%",
				Trailer: metadata.MD{"grpc-status-details-bin": {string(details)}},
			},
		},
		{
			"error after header and message", func(_ any, stream grpc.ServerStream) error {
				if err := stream.SetHeader(metadata.Pairs("h", "1")); err != nil {
					return err
				}
				stream.SetTrailer(metadata.Pairs("t", "1"))
				if err := stream.SendMsg(&[]byte{1}); err != nil {
					return err
				}
				return status.Error(codes.Aborted, "too late")
			}, nil,
			grpcout.Result{
				Status: codes.Aborted, Message: "too late",
				Header: metadata.Pairs("h", "1"), Trailer: metadata.Pairs("t", "1"),
			},
		},
		{
			"unavailable, says the service", func(any, grpc.ServerStream) error { return status.Error(codes.Unavailable, "maintenance") }, nil,
			grpcout.Result{Status: codes.Unavailable, Message: "maintenance"},
		},
		{
			"a code without a name", func(any, grpc.ServerStream) error { return status.Error(42, "odd") }, nil,
			grpcout.Result{Status: 42, Message: "odd"},
		},
		{
			"canceled, says the service", func(any, grpc.ServerStream) error { return status.Error(codes.Canceled, "no more") }, nil,
			grpcout.Result{Status: codes.Canceled, Message: "no more"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "127.0.0.1:0", tt.handler)
			r := newClient(t, grpcout.Options{}).Unary(withPatience(t), s.target, grpcout.Call{Method: method, Message: tt.message})
			if diff := cmp.Diff(tt.want, r, cmp.Comparer(sameBytes)); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

// sameBytes spares cmp from walking large messages byte by byte.
func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func TestUnaryBrokenServices(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options grpcout.Options
		handler grpc.StreamHandler
		want    codes.Code
	}{
		{"two replies", grpcout.Options{}, func(_ any, stream grpc.ServerStream) error {
			return errors.Join(stream.SendMsg(&[]byte{1}), stream.SendMsg(&[]byte{2}))
		}, codes.Internal},
		{"no reply", grpcout.Options{}, func(any, grpc.ServerStream) error { return nil }, codes.Internal},
		{"reply too large", grpcout.Options{MaxMessageBytes: 3}, func(_ any, stream grpc.ServerStream) error {
			return stream.SendMsg(&[]byte{1, 2, 3, 4})
		}, codes.ResourceExhausted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "127.0.0.1:0", tt.handler)
			r := newClient(t, tt.options).Unary(withPatience(t), s.target, grpcout.Call{Method: method})
			if r.Status != tt.want || len(r.Messages) != 0 || r.Message == "" {
				t.Errorf("result = %+v, want %v without messages", r, tt.want)
			}
		})
	}
}

func TestUnaryRequestTooLarge(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", echo)
	r := newClient(t, grpcout.Options{MaxMessageBytes: 3}).Unary(withPatience(t), s.target, grpcout.Call{Method: method, Message: make([]byte, 4)})
	if r.Status != codes.ResourceExhausted || !strings.HasPrefix(r.Message, s.target.Address+": ") {
		t.Errorf("result = %+v", r)
	}
}

// until is a handler that waits for its end and says when it runs.
func until(running chan<- struct{}) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		running <- struct{}{}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
}

func TestUnaryDeadline(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", until(make(chan struct{}, 1)))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r := newClient(t, grpcout.Options{}).Unary(ctx, s.target, grpcout.Call{Method: method})
	if r.Status != codes.DeadlineExceeded {
		t.Errorf("result = %+v, want DEADLINE_EXCEEDED", r)
	}
}

func TestUnaryCancel(t *testing.T) {
	t.Parallel()
	running := make(chan struct{}, 1)
	s := serve(t, "127.0.0.1:0", until(running))
	ctx, cancel := context.WithCancel(withPatience(t))
	go func() {
		<-running
		cancel()
	}()
	r := newClient(t, grpcout.Options{}).Unary(ctx, s.target, grpcout.Call{Method: method})
	if r.Status != codes.Canceled {
		t.Errorf("result = %+v, want CANCELED", r)
	}
}

func TestUnaryUnavailable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, grpcout.Options{})
	tests := []struct {
		name   string
		target grpcout.Target
		want   string
	}{
		{"nobody listens", grpcout.Target{Scheme: "http", Address: address}, address + ": "},
		{"no such host", grpcout.Target{Scheme: "http", Address: "no-such-host.invalid:80"}, "no-such-host.invalid:80: "},
		{"address without port", grpcout.Target{Scheme: "http", Address: "127.0.0.1"}, "127.0.0.1: "},
		{"no address", grpcout.Target{Scheme: "http"}, ": "},
		{"other scheme", grpcout.Target{Scheme: "ftp", Address: address}, address + `: scheme "ftp" is not supported`},
		{"https without TLS", grpcout.Target{Scheme: "https", Address: address}, address + `: scheme "https" contradicts`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := c.Unary(withPatience(t), tt.target, grpcout.Call{Method: method})
			if r.Status != codes.Unavailable || !strings.HasPrefix(r.Message, tt.want) {
				t.Errorf("result = %+v, want UNAVAILABLE with %q", r, tt.want)
			}
		})
	}
}

func TestServiceComesBack(t *testing.T) {
	t.Parallel()
	first := serve(t, "127.0.0.1:0", echo)
	c := newClient(t, grpcout.Options{})
	call := grpcout.Call{Method: method, Message: []byte{1}}
	ctx := withPatience(t)
	if r := c.Unary(ctx, first.target, call); r.Status != codes.OK {
		t.Fatalf("before: %+v", r)
	}
	first.server.Stop()
	for c.Unary(ctx, first.target, call).Status != codes.Unavailable {
		if ctx.Err() != nil {
			t.Fatal("the stopped service still answers")
		}
	}
	serve(t, first.target.Address, echo)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		r := c.Unary(ctx, first.target, call)
		if r.Status == codes.OK {
			return
		}
		if r.Status != codes.Unavailable {
			t.Fatalf("after: %+v", r)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after: %+v", r)
		}
	}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	a, b := serve(t, "127.0.0.1:0", echo), serve(t, "127.0.0.1:0", func(any, grpc.ServerStream) error {
		return status.Error(codes.NotFound, "b")
	})
	c := newClient(t, grpcout.Options{})
	ctx := withPatience(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			message := []byte{byte(i)}
			r := c.Unary(ctx, a.target, grpcout.Call{Method: method, Message: message})
			if r.Status != codes.OK || !bytes.Equal(r.Messages[0], message) {
				t.Errorf("call %d at a: %+v", i, r)
			}
			if r := c.Unary(ctx, b.target, grpcout.Call{Method: method, Message: message}); r.Status != codes.NotFound {
				t.Errorf("call %d at b: %+v", i, r)
			}
		})
	}
	wg.Wait()
	if a, b := a.connections.Load(), b.connections.Load(); a != 1 || b != 1 {
		t.Errorf("%d and %d connections, want one each", a, b)
	}
	other := a.target
	other.Authority = ""
	if r := c.Unary(ctx, other, grpcout.Call{Method: method}); r.Status != codes.OK || a.connections.Load() != 2 {
		t.Errorf("another authority: %+v, %d connections, want 2", r, a.connections.Load())
	}
}

func TestCloseCutsCalls(t *testing.T) {
	t.Parallel()
	running := make(chan struct{}, 1)
	s := serve(t, "127.0.0.1:0", until(running))
	c := grpcout.New(grpcout.Options{})
	ctx := withPatience(t)
	results := make(chan grpcout.Result, 1)
	go func() { results <- c.Unary(ctx, s.target, grpcout.Call{Method: method}) }()
	<-running
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want := grpcout.Result{Status: codes.Unavailable, Message: s.target.Address + ": the client is closed"}
	if diff := cmp.Diff(want, <-results); diff != "" {
		t.Errorf("the call that was cut (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, c.Unary(ctx, s.target, grpcout.Call{Method: method})); diff != "" {
		t.Errorf("a later call (-want +got):\n%s", diff)
	}
}

func BenchmarkUnary(b *testing.B) {
	s := serve(b, "127.0.0.1:0", echo)
	c := newClient(b, grpcout.Options{})
	call := grpcout.Call{Method: method, Message: make([]byte, 100), Metadata: metadata.Pairs("idempotency-key", "k1")}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if r := c.Unary(ctx, s.target, call); r.Status != codes.OK {
			b.Fatalf("%+v", r)
		}
	}
}
