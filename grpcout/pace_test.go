package grpcout_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcout"
)

// counting is what a service has under way, at most so far.
type counting struct{ now, top atomic.Int32 }

func (c *counting) around(handler grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		n := c.now.Add(1)
		defer c.now.Add(-1)
		for top := c.top.Load(); n > top && !c.top.CompareAndSwap(top, n); top = c.top.Load() {
		}
		return handler(srv, stream)
	}
}

// queued tells of calls that begin to wait.
type queued struct {
	grpcout.Observer
	begin chan struct{}
}

func (q queued) Waits(string) func() {
	q.begin <- struct{}{}
	return func() {}
}
func (queued) Attempt(ctx context.Context, _ string, _ int, _ bool) context.Context { return ctx }
func (queued) Attempted(string, grpcout.Target, grpcout.Result)                     {}
func (queued) Paced(context.Context, string, time.Duration)                         {}

func TestServiceHasNeverMoreUnderWay(t *testing.T) {
	t.Parallel()
	var counted counting
	s := serve(t, "127.0.0.1:0", counted.around(echoAll))
	callers := []*grpcout.Caller{newCaller(t, policy), newCaller(t, grpcout.Policy{})}
	pace := grpcout.NewPace("client", grpcout.PaceLimits{MaxInFlight: 4})
	const n = 400
	results := make(chan grpcout.Result, n)
	for i := range n {
		caller := callers[i%2]
		if i%3 == 0 {
			go func() { results <- caller.Unary(t.Context(), s.target, grpcout.Call{Method: method, Pace: pace}) }()
			continue
		}
		go func() {
			results <- caller.Stream(t.Context(), s.target, grpcout.Stream{
				Method: method, Next: requestOf("a", "b").next, Receive: func(metadata.MD, []byte) error { return nil }, Pace: pace,
			})
		}()
	}
	for range n {
		if r := <-results; r.Status != codes.OK {
			t.Errorf("%+v", r)
		}
	}
	if top := counted.top.Load(); top > 4 { // what it counts ends before the caller can know
		t.Errorf("%d calls were under way at once", top)
	}
}

// A stream has its place while it is open, and tells those who wait for it when it waits itself.
func TestOpenStreamHasItsPlace(t *testing.T) {
	t.Parallel()
	var counted counting
	s := serve(t, "127.0.0.1:0", counted.around(echoAll))
	p := policy
	began := make(chan struct{}, 10)
	p.Observer = queued{begin: began}
	caller := newCaller(t, p)
	pace := grpcout.NewPace("client", grpcout.PaceLimits{MaxInFlight: 1})
	request, open := make(source), make(chan struct{})
	ended := make(chan grpcout.Result, 3)
	go func() {
		ended <- caller.Stream(withPatience(t), s.target, grpcout.Stream{
			Method: method, Next: request.next, Pace: pace,
			Receive: func(metadata.MD, []byte) error {
				close(open)
				return nil
			},
		})
	}()
	request <- []byte("a")
	<-open
	told := make(chan bool, 2)
	go func() {
		ended <- caller.Stream(withPatience(t), s.target, grpcout.Stream{
			Method: method, Next: requestOf().next, Pace: pace, Waiting: func(begins bool) { told <- begins },
		})
	}()
	<-began
	go func() { ended <- caller.Unary(withPatience(t), s.target, grpcout.Call{Method: method, Pace: pace}) }()
	<-began
	if n := counted.top.Load(); n != 1 || len(told) != 1 || !<-told {
		t.Errorf("%d at once", n)
	}
	close(request)
	for range 3 {
		if r := <-ended; r.Status != codes.OK {
			t.Errorf("%+v", r)
		}
	}
	if <-told {
		t.Error("the stream was not told that it has its turn")
	}
}
