package grpcout_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcout"
)

var policy = grpcout.Policy{
	Retry: grpcout.Retry{
		Codes: []codes.Code{codes.Unavailable}, Initial: time.Millisecond, Max: 20 * time.Millisecond, MaxElapsed: patience,
	},
	Breaker:        grpcout.Breaker{Failures: 5, Open: 50 * time.Millisecond},
	AttemptTimeout: patience,
}

func TestCallerRetriesAgainstAService(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	s := serve(t, "127.0.0.1:0", func(srv any, stream grpc.ServerStream) error {
		if n.Add(1) < 4 {
			stream.SetTrailer(metadata.Pairs("t", "of the first"))
			return status.Error(codes.Unavailable, "not yet")
		}
		if _, timed := stream.Context().Deadline(); !timed {
			t.Error("an attempt has no deadline")
		}
		return echo(srv, stream)
	})
	c := grpcout.NewCaller(newClient(t, grpcout.Options{}), policy)
	r := c.Unary(t.Context(), s.target, grpcout.Call{Method: method, Message: []byte{1}})
	if diff := cmp.Diff(grpcout.Result{Messages: [][]byte{{1}}, Attempts: 4, Address: s.target.Address}, r); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

func TestCallerWaitsForAServiceThatIsDown(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := grpcout.Target{Scheme: "http", Address: l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := policy
	opened := make(chan grpcout.Result, 1)
	p.BreakerChanged = func(changed grpcout.Target, open bool, by grpcout.Result) {
		if open && changed == target {
			select {
			case opened <- by:
			default: // again
			}
		}
	}
	c := grpcout.NewCaller(newClient(t, grpcout.Options{}), p)
	const n = 100
	results := make(chan grpcout.Result, n)
	for range n {
		go func() { results <- c.Unary(t.Context(), target, grpcout.Call{Method: method}) }()
	}
	select {
	case by := <-opened:
		if by.Status != codes.Unavailable || !strings.Contains(by.Message, target.Address) {
			t.Errorf("the breaker was opened by %+v", by)
		}
	case <-time.After(patience):
		t.Fatal("the breaker did not open")
	}
	serve(t, target.Address, echo)
	for range n {
		if r := <-results; r.Status != codes.OK {
			t.Errorf("%+v", r)
		}
	}
}

func BenchmarkCaller(b *testing.B) {
	s := serve(b, "127.0.0.1:0", echo)
	c := grpcout.NewCaller(newClient(b, grpcout.Options{}), policy)
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
