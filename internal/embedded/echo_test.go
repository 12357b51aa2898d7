package embedded_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"kafkagrpc/internal/embedded"
)

// text is a message with the one field that the echo messages have: a string with number 1.
func text(s string) *wrapperspb.StringValue { return wrapperspb.String(s) }

func startEcho(t *testing.T) (*embedded.Echo, *grpc.ClientConn) {
	t.Helper()
	e, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(e.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e, conn
}

// call sends messages to a method and answers what came back.
func call(ctx context.Context, conn *grpc.ClientConn, method string, messages ...string) (got []string, header, trailer metadata.MD, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/grpc.examples.echo.Echo/"+method)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, m := range messages {
		if err := stream.SendMsg(text(m)); err != nil {
			return nil, nil, nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, nil, nil, err
	}
	for {
		m := text("")
		if err = stream.RecvMsg(m); err != nil {
			break
		}
		got = append(got, m.GetValue())
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	header, _ = stream.Header()
	return got, header, stream.Trailer(), err
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method   string
		metadata []string
		send     []string
		want     []string
		code     codes.Code
	}{
		"unary":                        {method: "UnaryEcho", send: []string{"hi"}, want: []string{"hi"}},
		"unary, empty message":         {method: "UnaryEcho", send: []string{""}, want: []string{""}},
		"unary, delayed":               {method: "UnaryEcho", metadata: []string{"echo-delay-ms", "1"}, send: []string{"hi"}, want: []string{"hi"}},
		"unary, code by name":          {method: "UnaryEcho", metadata: []string{"echo-code", "NOT_FOUND"}, send: []string{"hi"}, code: codes.NotFound},
		"unary, code by number":        {method: "UnaryEcho", metadata: []string{"echo-code", "14"}, send: []string{"hi"}, code: codes.Unavailable},
		"unary, no such code":          {method: "UnaryEcho", metadata: []string{"echo-code", "NOPE"}, send: []string{"hi"}, code: codes.InvalidArgument},
		"server stream":                {method: "ServerStreamingEcho", send: []string{"hi"}, want: []string{"hi", "hi", "hi"}},
		"server stream, count":         {method: "ServerStreamingEcho", metadata: []string{"echo-count", "1"}, send: []string{"hi"}, want: []string{"hi"}},
		"server stream, none":          {method: "ServerStreamingEcho", metadata: []string{"echo-count", "0"}, send: []string{"hi"}},
		"server stream, then a code":   {method: "ServerStreamingEcho", metadata: []string{"echo-code", "ABORTED"}, send: []string{"a"}, want: []string{"a", "a", "a"}, code: codes.Aborted},
		"client stream":                {method: "ClientStreamingEcho", send: []string{"a", "b", "c"}, want: []string{"a b c"}},
		"client stream, none":          {method: "ClientStreamingEcho", want: []string{""}},
		"bidirectional":                {method: "BidirectionalStreamingEcho", send: []string{"a", "b"}, want: []string{"a", "b"}},
		"bidirectional, then a code":   {method: "BidirectionalStreamingEcho", metadata: []string{"echo-code", "ABORTED"}, send: []string{"a"}, want: []string{"a"}, code: codes.Aborted},
		"a method that does not exist": {method: "Nope", send: []string{"a"}, code: codes.Unimplemented},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, conn := startEcho(t)
			got, _, _, err := call(metadata.AppendToOutgoingContext(t.Context(), tc.metadata...), conn, tc.method, tc.send...)
			if status.Code(err) != tc.code || !slices.Equal(got, tc.want) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.want, tc.code)
			}
		})
	}
}

func TestEchoSendsTheMetadataThatIsAskedFor(t *testing.T) {
	t.Parallel()
	_, conn := startEcho(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "echo-header", "h=1", "echo-trailer", "x=1", "echo-trailer", "x=2", "echo-trailer", "y=a=b")
	_, header, trailer, err := call(ctx, conn, "UnaryEcho", "hi")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(header["h"], []string{"1"}) {
		t.Errorf("initial metadata %v, want h=1", header)
	}
	if !slices.Equal(trailer["x"], []string{"1", "2"}) || !slices.Equal(trailer["y"], []string{"a=b"}) {
		t.Errorf("trailing metadata %v, want x=1, x=2, y=a=b", trailer)
	}
}

func TestEchoCountsCalls(t *testing.T) {
	t.Parallel()
	e, conn := startEcho(t)
	for _, key := range []string{"a", "b", "a", ""} {
		ctx := t.Context()
		if key != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
		}
		if _, _, _, err := call(ctx, conn, "UnaryEcho", "hi"); err != nil {
			t.Fatal(err)
		}
	}
	if e.Calls() != 4 || e.CallsOf("a") != 2 || e.CallsOf("b") != 1 || e.CallsOf("c") != 0 {
		t.Errorf("calls %d, of a %d, of b %d, of c %d; want 4, 2, 1, 0", e.Calls(), e.CallsOf("a"), e.CallsOf("b"), e.CallsOf("c"))
	}
}

func TestEchoEndsADelayWithItsCall(t *testing.T) {
	t.Parallel()
	e, conn := startEcho(t)
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "echo-delay-ms", "3600000"))
	ended := make(chan error, 1)
	go func() {
		_, _, _, err := call(ctx, conn, "UnaryEcho", "hi")
		ended <- err
	}()
	await(t, "the call", func() bool { return e.Calls() == 1 })
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("ended with %v, want canceled", err)
	}
	await(t, "the cancellation", func() bool { return e.Canceled() == 1 })
}

// await polls a condition that has no event.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s did not come", what)
		}
	}
}
