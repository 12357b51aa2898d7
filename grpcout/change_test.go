package grpcout_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"

	"context"

	"kafkagrpc/grpcout"
)

// ends tells of connections of a service that have ended.
type ends chan struct{}

func (ends) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (ends) HandleRPC(context.Context, stats.RPCStats)                         {}
func (ends) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (e ends) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, end := s.(*stats.ConnEnd); end {
		e <- struct{}{}
	}
}

// A target that is not kept keeps its connection until the calls that use it have ended, which nothing ends before.
func TestKeep(t *testing.T) {
	t.Parallel()
	running, proceed, ended := make(chan struct{}), make(chan struct{}), make(ends, 10)
	old := serve(t, "127.0.0.1:0", func(srv any, stream grpc.ServerStream) error {
		running <- struct{}{}
		<-proceed
		return echo(srv, stream)
	}, grpc.StatsHandler(ended))
	next := serve(t, "127.0.0.1:0", echo)
	c := newClient(t, grpcout.Options{})
	call := func(s *service) <-chan grpcout.Result {
		result := make(chan grpcout.Result, 1)
		go func() { result <- c.Unary(withPatience(t), s.target, grpcout.Call{Method: method, Message: []byte{1}}) }()
		return result
	}
	first, second := call(old), call(old)
	<-running
	<-running
	c.Keep(next.target)
	if r := <-call(next); r.Status != codes.OK {
		t.Errorf("%+v", r)
	}
	proceed <- struct{}{}
	proceed <- struct{}{}
	for _, result := range []<-chan grpcout.Result{first, second} {
		if r := <-result; r.Status != codes.OK {
			t.Errorf("a call to a target that is not kept: %+v", r)
		}
	}
	<-ended
	// One that comes late has a connection for itself.
	late := call(old)
	<-running
	proceed <- struct{}{}
	if r := <-late; r.Status != codes.OK {
		t.Errorf("%+v", r)
	}
	<-ended
	// One without calls is closed at once.
	c.Keep(old.target)
	kept := call(old)
	<-running
	proceed <- struct{}{}
	<-kept
	c.Keep()
	<-ended
	if n := next.connections.Load(); n != 1 {
		t.Errorf("%d connections to the target that was kept", n)
	}
}
