package grpcin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/grpcin"
	"kafkagrpc/grpcout"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

// services calls them as the program does.
type services struct{ client *grpcout.Client }

func (s services) Call(ctx context.Context, t topology.Target, p grpcin.Passed) grpcin.Outcome {
	target := grpcout.Target{Scheme: t.Scheme, Authority: t.Authority, Address: t.Address, MaxMessageBytes: t.MaxMessage, Compression: t.Compression}
	if t.TLS != nil {
		target.TLS = t.TLS.Config
	}
	r := s.client.Stream(ctx, target, grpcout.Stream{
		Method: p.Method, Metadata: p.Metadata, Next: p.Next, Begin: p.Begin,
		Receive: func(_ metadata.MD, m []byte) error { return p.Receive(m) },
	})
	return grpcin.Outcome{Status: r.Status, Message: r.Message, Trailer: r.Trailer}
}

// serveDirect starts a service that a handler is, and answers its target.
func serveDirect(t testing.TB, handler func(grpc.ServerStream) error, more ...grpc.ServerOption) topology.Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(more, grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.WaitForHandlers(true),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return handler(stream) }))...)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return topology.Target{Scheme: "http", Authority: "echo.example", Address: l.Addr().String()}
}

// direct leads all methods of the echo service to a target.
func direct(t testing.TB, target topology.Target) setting {
	client := grpcout.New(grpcout.Options{})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(o *grpcin.Options, _ *front) {
		o.Services = services{client}
		route := topology.NorthRoute{Binding: "south_grpc_client", Methods: []topology.MethodPattern{"*", service + "/*"}, Target: &target}
		o.Listener.Routes = append([]topology.NorthRoute{route}, o.Listener.Routes...)
	}
}

// startDirect is a server in front of a handler.
func startDirect(t testing.TB, handler func(grpc.ServerStream) error, settings ...setting) *front {
	t.Helper()
	return start(t, append([]setting{direct(t, serveDirect(t, handler))}, settings...)...)
}

// echoes answers each message with itself.
func echoes(stream grpc.ServerStream) error {
	for {
		var m []byte
		if err := stream.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&m); err != nil {
			return err
		}
	}
}

func TestDirectCallsOfAllKinds(t *testing.T) {
	t.Parallel()
	f := startDirect(t, echoes)
	ctx := withPatience(t)
	for range 3 {
		if r := f.call(ctx, unary, "hi"); r.Status != codes.OK || r.Message != "hi" {
			t.Errorf("unary: %+v", r)
		}
		if r := f.call(ctx, unary, ""); r.Status != codes.OK || r.Message != "" {
			t.Errorf("an empty message: %+v", r)
		}
		for _, method := range []string{serverStream, clientStream, bidi, unknown} {
			c := f.stream(ctx, t, method)
			for _, m := range []string{"a", "", "b"} {
				c.send(m)
				if got := c.next(); got != m {
					t.Errorf("%s: %q, want %q while the call is open", method, got, m)
				}
			}
			c.half()
			c.wants(codes.OK)
		}
	}
	if n := len(f.kafka.written()); n != 0 {
		t.Errorf("%d records were written", n)
	}
}

func TestDirectMetadataBothWays(t *testing.T) {
	t.Parallel()
	seen := make(chan metadata.MD, 1)
	f := startDirect(t, func(stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		seen <- md
		if err := grpc.SendHeader(stream.Context(), metadata.Pairs("h", "1", "h", "2", "h-bin", "\xff", "odd", "caf\xe9", "content-length", "3")); err != nil {
			return err
		}
		var m []byte
		if err := stream.RecvMsg(&m); err != nil {
			return err
		}
		if err := grpc.SetTrailer(stream.Context(), metadata.Pairs("t", "3", "t-bin", "\x00")); err != nil {
			return err
		}
		return stream.SendMsg(&m)
	})
	c := f.stream(withPatience(t), t, bidi, "a", "1", "a", "2", "b-bin", "\xfe", "authorization", "Bearer x", "cookie", "k=v", "idempotency-key", "no key of ours here")
	// Before the first message in either direction.
	header, err := c.Header()
	if err != nil {
		t.Fatal(err)
	}
	delete(header, "content-type")
	if diff := cmp.Diff(metadata.Pairs("h", "1", "h", "2", "h-bin", "\xff", "odd", "caf\xe9"), header); diff != "" {
		t.Errorf("initial metadata (-want +got):\n%s", diff)
	}
	c.send("x")
	c.half()
	c.wants(codes.OK, "x")
	if diff := cmp.Diff(metadata.Pairs("t", "3", "t-bin", "\x00"), c.Trailer()); diff != "" {
		t.Errorf("trailers (-want +got):\n%s", diff)
	}
	got := <-seen
	want := metadata.MD{
		"a": {"1", "2"}, "b-bin": {"\xfe"}, "authorization": {"Bearer x"}, "cookie": {"k=v"}, "idempotency-key": {"no key of ours here"},
		":authority": {"echo.example"}, "content-type": {"application/grpc+proto"},
	}
	got = got.Copy()
	if agent := got["user-agent"]; len(agent) != 1 || !strings.HasPrefix(agent[0], "kafka-grpc") {
		t.Errorf("user-agent %q", agent)
	}
	delete(got, "user-agent")
	for name := range got {
		if strings.HasPrefix(name, "grpc-") {
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metadata of the request (-want +got):\n%s", diff)
	}
}

func TestDirectStatus(t *testing.T) {
	t.Parallel()
	details, err := proto.Marshal(&spb.Status{Code: int32(codes.NotFound), Message: "no such thing"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		code    codes.Code
		text    string
		trailer metadata.MD
		want    result
	}{
		{"rich error", codes.NotFound, "no such thing", metadata.Pairs("grpc-status-details-bin", string(details), "t", "1"),
			result{Status: codes.NotFound, Text: "no such thing", Trailer: metadata.Pairs("grpc-status-details-bin", string(details), "t", "1")}},
		{"unavailable", codes.Unavailable, "try later", nil, result{Status: codes.Unavailable, Text: "try later", Trailer: metadata.MD{}}},
		{"a code that nobody knows", codes.Code(99), "odd", nil, result{Status: codes.Code(99), Text: "odd", Trailer: metadata.MD{}}},
		{"no ASCII", codes.Aborted, "caf\u00e9 100%\n", nil, result{Status: codes.Aborted, Text: "caf\u00e9 100%\n", Trailer: metadata.MD{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			f := startDirect(t, func(stream grpc.ServerStream) error {
				calls.Add(1)
				if err := grpc.SetTrailer(stream.Context(), tt.trailer); err != nil {
					return err
				}
				return status.Error(tt.code, tt.text)
			})
			got := f.call(withPatience(t), unary, "x")
			got.Header = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if n := calls.Load(); n != 1 {
				t.Errorf("the service was called %d times", n)
			}
			// After a message.
			f = startDirect(t, func(stream grpc.ServerStream) error {
				m := []byte("first")
				if err := stream.SendMsg(&m); err != nil {
					return err
				}
				if err := grpc.SetTrailer(stream.Context(), tt.trailer); err != nil {
					return err
				}
				return status.Error(tt.code, tt.text)
			})
			c := f.stream(withPatience(t), t, bidi) // which it never half-closes
			c.wants(tt.code, "first")
			if diff := cmp.Diff(tt.want.Trailer, c.Trailer(), cmp.Transformer("filled", func(m metadata.MD) metadata.MD { return metadata.Join(m) })); diff != "" {
				t.Errorf("trailers (-want +got):\n%s", diff)
			}
		})
	}
}

// A caller takes details of another status for it; without them, it gets the status.
func TestDirectDetailsOfAnotherStatus(t *testing.T) {
	t.Parallel()
	details, err := proto.Marshal(&spb.Status{Code: int32(codes.NotFound), Message: "no such thing"})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f := startDirect(t, func(stream grpc.ServerStream) error {
		if err := grpc.SetTrailer(stream.Context(), metadata.Pairs("grpc-status-details-bin", string(details), "t", "1")); err != nil {
			return err
		}
		return status.Error(codes.Internal, "an error")
	}, func(o *grpcin.Options, _ *front) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	r := f.call(withPatience(t), unary, "x")
	if r.Status != codes.Internal || len(r.Trailer["grpc-status-details-bin"]) != 0 || len(r.Trailer["t"]) != 1 {
		t.Errorf("result = %+v", r)
	}
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "a trailer of a service is left out") {
		t.Errorf("log: %s", &log)
	}
}

func TestDirectServiceThatIsDown(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f := start(t, direct(t, topology.Target{Scheme: "http", Address: address}))
	if r := f.call(withPatience(t), unary, "x"); r.Status != codes.Unavailable || !strings.Contains(r.Text, address) {
		t.Errorf("result = %+v", r)
	}
}

func TestDirectDeadlineIsPassedOn(t *testing.T) {
	t.Parallel()
	limits := make(chan time.Duration, 2)
	f := startDirect(t, func(stream grpc.ServerStream) error {
		deadline, ok := stream.Context().Deadline()
		if !ok {
			limits <- 0
			return nil
		}
		limits <- time.Until(deadline)
		return status.Error(codes.Aborted, "")
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	f.call(ctx, unary, "x")
	if d := <-limits; d <= 0 || d > patience/2 {
		t.Errorf("the service has %v, of %v", d, patience/2)
	}
	f.call(t.Context(), unary, "x")
	if d := <-limits; d != 0 {
		t.Errorf("the service has %v, and the caller no deadline", d)
	}
	// One that passes.
	f = startDirect(t, func(stream grpc.ServerStream) error {
		<-stream.Context().Done()
		return nil
	})
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if r := f.call(ctx, unary, "x"); r.Status != codes.DeadlineExceeded {
		t.Errorf("result = %+v", r)
	}
}

func TestDirectCallIsCanceled(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}, 1), make(chan struct{})
	f := startDirect(t, func(stream grpc.ServerStream) error {
		began <- struct{}{}
		<-stream.Context().Done()
		close(ended)
		return nil
	})
	ctx, cancel := context.WithCancel(withPatience(t))
	c := f.stream(ctx, t, bidi)
	c.send("x")
	<-began
	cancel()
	select {
	case <-ended:
	case <-withPatience(t).Done():
		t.Fatal("the service was not told")
	}
	c.wants(codes.Canceled)
}

func TestDirectMessagesOfASize(t *testing.T) {
	t.Parallel()
	large := func(stream grpc.ServerStream) error {
		var m []byte
		if err := stream.RecvMsg(&m); err != nil {
			return err
		}
		m = make([]byte, 3000)
		return stream.SendMsg(&m)
	}
	server := func(bytes int) setting {
		return func(o *grpcin.Options, _ *front) { o.Listener.Server.MaxMessage = bytes }
	}
	client := func(bytes int) setting {
		return func(o *grpcin.Options, _ *front) { o.Listener.Routes[0].Target.MaxMessage = bytes }
	}
	for name, tt := range map[string]struct {
		handler  func(grpc.ServerStream) error
		settings []setting
		want     codes.Code
	}{
		"as large as both take":               {echoes, []setting{server(2000), client(2000)}, codes.OK},
		"larger than the server takes":        {echoes, []setting{server(1999)}, codes.ResourceExhausted},
		"larger than the client sends":        {echoes, []setting{client(1999)}, codes.ResourceExhausted},
		"an answer larger than it takes":      {large, []setting{client(2999)}, codes.ResourceExhausted},
		"an answer as large as it takes":      {large, []setting{client(3000)}, codes.OK},
		"larger by far than what is buffered": {echoes, []setting{server(4 << 20), client(4 << 20), limits(grpcin.Limits{RequestBytes: 10})}, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startDirect(t, tt.handler, tt.settings...)
			for range 3 { // nothing is counted for good
				if r := f.call(withPatience(t), unary, strings.Repeat("x", 2000)); r.Status != tt.want {
					t.Errorf("result = %v %s, want %v", r.Status, r.Text, tt.want)
				}
				c := f.stream(withPatience(t), t, bidi)
				c.send(strings.Repeat("x", 2000))
				c.half()
				if _, err := c.rest(); status.Code(err) != tt.want {
					t.Errorf("stream: %v, want %v", err, tt.want)
				}
			}
		})
	}
}

// counting tells of each message that is taken for a service.
type counting struct {
	grpcin.Services
	taken chan<- struct{}
}

func (c counting) Call(ctx context.Context, t topology.Target, p grpcin.Passed) grpcin.Outcome {
	next := p.Next
	p.Next = func(ctx context.Context) ([]byte, error) {
		m, err := next(ctx)
		if err == nil {
			c.taken <- struct{}{}
		}
		return m, err
	}
	return c.Services.Call(ctx, t, p)
}

// What a service does not take counts until its call has ended, and not longer.
func TestDirectMessagesThatNobodyTakes(t *testing.T) {
	t.Parallel()
	enough := make(chan struct{})
	taken := make(chan struct{}, 100) // messages that were given to the client of the service
	target := serveDirect(t, func(grpc.ServerStream) error {
		<-enough
		return status.Error(codes.Aborted, "enough")
	}, grpc.StaticStreamWindowSize(64<<10))
	f := start(t, direct(t, target), limits(grpcin.Limits{RequestBytes: 120_000}), func(o *grpcin.Options, _ *front) {
		o.Services = counting{o.Services, taken}
	})
	for range 5 {
		c := f.stream(withPatience(t), t, bidi)
		for range 3 { // the third one waits: more does not go out before the service reads
			m := make([]byte, 80_000)
			if err := c.SendMsg(&m); err != nil {
				t.Fatal(err)
			}
			<-taken
		}
		m := make([]byte, 50_000) // and this one waits for that
		if err := c.SendMsg(&m); err != nil {
			t.Fatal(err)
		}
		enough <- struct{}{}
		c.wants(codes.Aborted)
	}
}

func TestDirectRoutesAmongThoseOfKafka(t *testing.T) {
	t.Parallel()
	f := startDirect(t, echoes, func(o *grpcin.Options, _ *front) {
		o.Listener.Routes[0].Methods = []topology.MethodPattern{"*", service + "/*"}
		o.Listener.Routes[0].Metadata = wire.Metadata{{Name: "way", Value: "direct"}}
	})
	f.kafka.on = echo(t, f.calls)
	for way, records := range map[string]int{"direct": 0, "kafka": 2} {
		before := len(f.kafka.written())
		if r := f.call(withPatience(t), unary, "x", "way", way); r.Status != codes.OK || r.Message != "x" {
			t.Errorf("%s: %+v", way, r)
		}
		if n := len(f.kafka.written()) - before; n != records {
			t.Errorf("%s: %d records, want %d", way, n, records)
		}
	}
	if r := f.call(withPatience(t), "other.Service/Method", "x"); r.Status != codes.Unimplemented {
		t.Errorf("a method of no route: %+v", r)
	}
}

func TestDirectCallsAtTheStop(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 1)
	f := startDirect(t, func(stream grpc.ServerStream) error {
		began <- struct{}{}
		<-stream.Context().Done()
		return nil
	}, func(o *grpcin.Options, _ *front) { o.Drain = time.Millisecond })
	c := f.stream(withPatience(t), t, bidi)
	c.send("x")
	<-began
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.rest(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("status %v", err)
	}
}

func TestDirectCallsWithoutADeadline(t *testing.T) {
	t.Parallel()
	f := startDirect(t, func(stream grpc.ServerStream) error {
		<-stream.Context().Done()
		return nil
	}, func(o *grpcin.Options, _ *front) { o.MaxWait = 20 * time.Millisecond })
	if r := f.call(t.Context(), unary, "x"); r.Status != codes.DeadlineExceeded || !strings.Contains(r.Text, "no answer within 20ms") {
		t.Errorf("unary: %+v", r)
	}
	c := f.stream(t.Context(), t, bidi)
	if _, err := c.rest(); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "no message for 20ms") {
		t.Errorf("stream: %v", err)
	}
}

func TestDirectAnswersForSmallHeaderLists(t *testing.T) {
	t.Parallel()
	f := startDirect(t, func(stream grpc.ServerStream) error {
		if err := grpc.SendHeader(stream.Context(), metadata.Pairs("a", "1", "large", strings.Repeat("x", 5000))); err != nil {
			return err
		}
		if err := grpc.SetTrailer(stream.Context(), metadata.Pairs("b", "1", "large", strings.Repeat("x", 5000))); err != nil {
			return err
		}
		return status.Error(codes.NotFound, "nothing")
	})
	r := call(withPatience(t), limited(t, f.address, 2000, false, nil), unary, "x")
	if r.Status != codes.NotFound || r.Text != "nothing" || len(r.Header["large"])+len(r.Trailer["large"]) != 0 || len(r.Header["a"]) != 1 || len(r.Trailer["b"]) != 1 {
		t.Errorf("result = %+v", r)
	}
}

func TestDirectTLSAndCompression(t *testing.T) {
	t.Parallel()
	cert, pool := certificate(t, "localhost")
	compressed := make(compressions, 10)
	target := serveDirect(t, echoes, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}})), grpc.StatsHandler(compressed))
	target.Scheme, target.TLS, target.Compression = "https", &topology.ClientTLS{Config: &tls.Config{RootCAs: pool, ServerName: "localhost"}}, "gzip"
	f := start(t, direct(t, target), func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{cert}, ALPN: []string{"h2"}}
	})
	conn := dial(t, f.address, &tls.Config{ServerName: "localhost", RootCAs: pool})
	if r := call(withPatience(t), conn, unary, strings.Repeat("x", 1000)); r.Status != codes.OK || len(r.Message) != 1000 {
		t.Errorf("result = %+v", r)
	}
	if how := <-compressed; how != "gzip" {
		t.Errorf("the request is compressed by %q", how)
	}
	target.TLS = &topology.ClientTLS{Config: &tls.Config{RootCAs: pool, ServerName: "other.example"}}
	f = start(t, direct(t, target))
	if r := f.call(withPatience(t), unary, "x"); r.Status != codes.Unavailable || !strings.Contains(r.Text, "other.example") {
		t.Errorf("a certificate of another name: %+v", r)
	}
}

// compressions are how the requests of a service come.
type compressions chan string

func (c compressions) HandleRPC(_ context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok {
		c <- h.Compression
	}
}
func (compressions) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (compressions) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (compressions) HandleConn(context.Context, stats.ConnStats)                       {}

func TestDirectRoutesNeedServices(t *testing.T) {
	t.Parallel()
	l := listener()
	l.Routes[0].Target = &topology.Target{Scheme: "http", Address: "echo:1"}
	_, err := grpcin.NewServer(grpcin.Options{Listener: topology.Listener{Routes: l.Routes[:1]}, Calls: grpcin.NewCalls(nil, grpcin.Limits{})})
	if err == nil || !strings.Contains(err.Error(), "nothing calls services") {
		t.Errorf("error %v", err)
	}
}
