package grpcout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcout"
)

// source gives messages to a stream as a test sends them.
type source chan []byte

func (s source) next(ctx context.Context) ([]byte, error) {
	select {
	case message, ok := <-s:
		if !ok {
			return nil, io.EOF
		}
		return message, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func requestOf(messages ...string) source {
	s := make(source, len(messages))
	for _, m := range messages {
		s <- []byte(m)
	}
	close(s)
	return s
}

// echoAll echoes each message as it comes, with a header and a trailer.
func echoAll(_ any, stream grpc.ServerStream) error {
	if err := stream.SetHeader(metadata.Pairs("h", "1", "h", "2")); err != nil {
		return err
	}
	stream.SetTrailer(metadata.Pairs("t-bin", "\xff"))
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

func newCaller(t testing.TB, p grpcout.Policy) *grpcout.Caller {
	return grpcout.NewCaller(newClient(t, grpcout.Options{}), p)
}

func TestStreamMessagesFlowBothWaysWhileItIsOpen(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", echoAll)
	const rounds = 1000
	request := make(source, 1)
	request <- []byte("0")
	n := 0
	r := newCaller(t, policy).Stream(withPatience(t), s.target, grpcout.Stream{
		Method: method, Next: request.next,
		Receive: func(header metadata.MD, message []byte) error {
			if want := fmt.Sprint(n); string(message) != want || len(header["h"]) != 2 {
				t.Errorf("message %q with header %v, want %q", message, header, want)
			}
			if n++; n == rounds {
				close(request)
			} else {
				request <- fmt.Append(nil, n)
			}
			return nil
		},
	})
	if diff := cmp.Diff(grpcout.Result{Header: metadata.Pairs("h", "1", "h", "2"), Trailer: metadata.Pairs("t-bin", "\xff"), Attempts: 1, Address: s.target.Address}, r); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if n != rounds {
		t.Errorf("%d rounds, want %d", n, rounds)
	}
}

func TestStreamWithoutMessagesIsOK(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", func(any, grpc.ServerStream) error { return nil })
	r := newCaller(t, policy).Stream(withPatience(t), s.target, grpcout.Stream{Method: method, Next: requestOf().next})
	if r.Status != codes.OK || r.Attempts != 1 {
		t.Errorf("%+v", r)
	}
}

func TestStreamThatTheServiceEndsEarly(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", func(_ any, stream grpc.ServerStream) error {
		stream.SetTrailer(metadata.Pairs("t", "1"))
		return status.Error(codes.Aborted, "enough")
	})
	r := newCaller(t, policy).Stream(withPatience(t), s.target, grpcout.Stream{Method: method, Next: make(source).next})
	if r.Status != codes.Aborted || r.Message != "enough" || len(r.Trailer["t"]) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestStreamIsMadeAgainWhileNothingWasReceived(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	s := serve(t, "127.0.0.1:0", func(srv any, stream grpc.ServerStream) error {
		if n.Add(1) > 2 {
			return echoAll(srv, stream)
		}
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			return err
		}
		return status.Error(codes.Unavailable, "not yet")
	})
	var got []string
	r := newCaller(t, policy).Stream(withPatience(t), s.target, grpcout.Stream{
		Method: method, Next: requestOf("one", "two", "").next,
		Receive: func(_ metadata.MD, message []byte) error {
			got = append(got, string(message))
			return nil
		},
	})
	if diff := cmp.Diff([]string{"one", "two", ""}, got); diff != "" || r.Status != codes.OK || r.Attempts != 3 {
		t.Errorf("%+v, messages (-want +got):\n%s", r, diff)
	}
}

func TestStreamIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		request source
		service grpc.StreamHandler
	}{
		{"after a message of the service", requestOf("one"), func(_ any, stream grpc.ServerStream) error {
			if err := stream.SendMsg(&[]byte{1}); err != nil {
				return err
			}
			return status.Error(codes.Unavailable, "gone")
		}},
		{"whose request is too large to be kept", requestOf(string(make([]byte, 600<<10)), string(make([]byte, 600<<10))), func(_ any, stream grpc.ServerStream) error {
			var message []byte
			for range 2 {
				if err := stream.RecvMsg(&message); err != nil {
					return err
				}
			}
			return status.Error(codes.Unavailable, "gone")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "127.0.0.1:0", test.service)
			r := newCaller(t, policy).Stream(withPatience(t), s.target, grpcout.Stream{
				Method: method, Next: test.request.next, Receive: func(metadata.MD, []byte) error { return nil },
			})
			if r.Status != codes.Unavailable || r.Attempts != 1 || r.Message != "gone" {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestSlowServiceSlowsTheSourceOfAStream(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	s := serve(t, "127.0.0.1:0", func(srv any, stream grpc.ServerStream) error {
		<-read
		var message []byte
		for stream.RecvMsg(&message) == nil {
		}
		return nil
	})
	const messages, size = 200, 64 << 10
	var taken atomic.Int32
	stuck := make(chan struct{})
	var once sync.Once
	ctx := withPatience(t)
	done := make(chan grpcout.Result, 1)
	c := newCaller(t, policy)
	go func() {
		done <- c.Stream(ctx, s.target, grpcout.Stream{Method: method, Next: func(context.Context) ([]byte, error) {
			switch n := taken.Add(1); {
			case n > messages:
				return nil, io.EOF
			case n == 2: // the first is written
				once.Do(func() { close(stuck) })
			}
			return make([]byte, size), nil
		}})
	}()
	<-stuck
	// It stops by itself: the count stays the same over several looks.
	last, same := int32(-1), 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for same < 10 {
		<-tick.C
		if now := taken.Load(); now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
	if last >= messages/2 {
		t.Errorf("%d of %d messages were taken while the service read none", last, messages)
	}
	close(read)
	if r := <-done; r.Status != codes.OK || taken.Load() != messages+1 {
		t.Errorf("%+v, %d messages taken", r, taken.Load())
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 2)
	var reached atomic.Bool
	s := serve(t, "127.0.0.1:0", func(_ any, stream grpc.ServerStream) error {
		reached.Store(true)
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		return stream.Context().Err()
	})
	c := newCaller(t, policy)
	for timeout := 50 * time.Millisecond; !reached.Load(); timeout *= 2 { // a busy machine may not come to the service before
		ctx, cancel := context.WithTimeout(withPatience(t), timeout)
		defer cancel()
		if r := c.Stream(ctx, s.target, grpcout.Stream{Method: method, Next: make(source).next}); r.Status != codes.DeadlineExceeded {
			t.Fatalf("after its deadline: %+v", r)
		}
	}
	<-ended
	cancelled, cancel := context.WithCancel(withPatience(t))
	request := make(source)
	go func() {
		request <- []byte("one")
		cancel()
	}()
	if r := c.Stream(cancelled, s.target, grpcout.Stream{Method: method, Next: request.next}); r.Status != codes.Canceled {
		t.Errorf("after its cancel: %+v", r)
	}
}

func TestReceiverEndsAStream(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", echoAll)
	request := make(source, 1)
	request <- []byte("one")
	r := newCaller(t, policy).Stream(withPatience(t), s.target, grpcout.Stream{
		Method: method, Next: request.next, Receive: func(metadata.MD, []byte) error { return errors.New("no room") },
	})
	if r.Status != codes.Canceled || r.Message != "no room" {
		t.Errorf("%+v", r)
	}
}

func TestSilentStreamAsAProbeKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	s := serve(t, "127.0.0.1:0", func(srv any, stream grpc.ServerStream) error {
		if down.Load() {
			return status.Error(codes.Unavailable, "down")
		}
		return echoAll(srv, stream)
	})
	p := policy
	p.Retry = grpcout.Retry{Codes: p.Retry.Codes}
	p.Breaker.Failures = 1
	c := newCaller(t, p)
	ctx, cancel := context.WithCancel(withPatience(t))
	if r := c.Unary(ctx, s.target, grpcout.Call{Method: method}); r.Status != codes.Unavailable {
		t.Fatalf("%+v", r)
	}
	down.Store(false)
	silent := make(chan grpcout.Result, 1)
	entered := make(chan struct{})
	go func() {
		silent <- c.Stream(ctx, s.target, grpcout.Stream{Method: method, Next: func(ctx context.Context) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	}()
	<-entered
	if r := c.Unary(withPatience(t), s.target, grpcout.Call{Method: method, Message: []byte("two")}); r.Status != codes.OK {
		t.Errorf("behind the silent stream: %+v", r)
	}
	cancel()
	<-silent
}

// payloads hears the sizes of the messages that a server gets and sends.
type payloads struct {
	stats.Handler
	heard chan *stats.InPayload
	sent  chan *stats.OutPayload // nil: not wanted
}

func (payloads) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (payloads) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (payloads) HandleConn(context.Context, stats.ConnStats)                       {}
func (p payloads) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		p.heard <- s
	case *stats.OutPayload:
		if p.sent != nil {
			p.sent <- s
		}
	}
}

func TestMessageLimitAndCompressionOfATarget(t *testing.T) {
	t.Parallel()
	heard := payloads{heard: make(chan *stats.InPayload, 10)}
	s := serve(t, "127.0.0.1:0", func(_ any, stream grpc.ServerStream) error {
		message, err := receive(stream)
		if err != nil {
			return err
		}
		reply := bytes.Repeat(message, 2)
		return stream.SendMsg(&reply)
	}, grpc.StatsHandler(heard))
	c := newCaller(t, policy)
	target := s.target
	target.MaxMessageBytes, target.Compression = 1000, "gzip"
	call := func(size int) grpcout.Result {
		return c.Unary(withPatience(t), target, grpcout.Call{Method: method, Message: make([]byte, size)})
	}
	if r := call(500); r.Status != codes.OK || len(r.Messages[0]) != 1000 {
		t.Errorf("within the limit: %v %s", r.Status, r.Message)
	}
	if in := <-heard.heard; in.Length != 500 || in.CompressedLength >= 100 {
		t.Errorf("%d bytes came as %d, not compressed", in.Length, in.CompressedLength)
	}
	for _, size := range []int{501, 1001} {
		if r := call(size); r.Status != codes.ResourceExhausted {
			t.Errorf("%d bytes: %v %s", size, r.Status, r.Message)
		}
	}
	stream := c.Stream(withPatience(t), target, grpcout.Stream{
		Method: method, Next: requestOf(string(make([]byte, 501))).next, Receive: func(metadata.MD, []byte) error { return nil },
	})
	if stream.Status != codes.ResourceExhausted {
		t.Errorf("stream: %+v", stream)
	}
}

func TestServiceMayAnswerCompressed(t *testing.T) {
	t.Parallel()
	heard := payloads{sent: make(chan *stats.OutPayload, 10), heard: make(chan *stats.InPayload, 10)}
	s := serve(t, "127.0.0.1:0", func(srv any, stream grpc.ServerStream) error {
		if err := grpc.SetSendCompressor(stream.Context(), "gzip"); err != nil {
			return err
		}
		return echoAll(srv, stream)
	}, grpc.StatsHandler(heard))
	message := string(make([]byte, 1000))
	c := newCaller(t, policy)
	var got []string
	r := c.Stream(withPatience(t), s.target, grpcout.Stream{Method: method, Next: requestOf(message).next, Receive: func(_ metadata.MD, m []byte) error {
		got = append(got, string(m))
		return nil
	}})
	if r.Status != codes.OK || len(got) != 1 || got[0] != message {
		t.Errorf("%+v, %d messages", r, len(got))
	}
	if out := <-heard.sent; out.CompressedLength >= 500 {
		t.Errorf("%d bytes went as %d, not compressed", out.Length, out.CompressedLength)
	}
	if r := c.Unary(withPatience(t), s.target, grpcout.Call{Method: method, Message: []byte(message)}); r.Status != codes.OK || string(r.Messages[0]) != message {
		t.Errorf("unary: %+v", r)
	}
}

func BenchmarkStream(b *testing.B) {
	s := serve(b, "127.0.0.1:0", echoAll)
	request := make(source, 1)
	request <- make([]byte, 100)
	n := 0
	b.ReportAllocs()
	b.ResetTimer()
	r := newCaller(b, policy).Stream(context.Background(), s.target, grpcout.Stream{
		Method: method, Next: request.next,
		Receive: func(_ metadata.MD, message []byte) error {
			if n++; n >= b.N {
				close(request)
			} else {
				request <- message
			}
			return nil
		},
	})
	if r.Status != codes.OK {
		b.Fatalf("%+v", r)
	}
}
