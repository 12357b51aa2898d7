package grpcin_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
)

// echoRoute leads all methods of the service to an echo binding. Nothing calls services.
func echoRoute(o *grpcin.Options, _ *front) {
	route := topology.NorthRoute{Binding: "echo0", Methods: []topology.MethodPattern{service + "/*"}, Target: &topology.Target{Scheme: topology.Echo, Address: "echo0"}}
	o.Listener.Routes = append([]topology.NorthRoute{route}, o.Listener.Routes...)
}

func TestEchoBindingAnswersWhatItGets(t *testing.T) {
	t.Parallel()
	f := start(t, echoRoute)
	ctx := withPatience(t)
	if r := f.call(ctx, unary, "hi", "a", "1"); r.Status != codes.OK || r.Message != "hi" || len(r.Header["a"]) != 0 {
		t.Errorf("result = %+v", r)
	}
	c := f.stream(ctx, t, bidi)
	for _, m := range []string{"a", "", "b"} {
		c.send(m)
		if got := c.next(); got != m {
			t.Errorf("%q, want %q while the call is open", got, m)
		}
	}
	c.half()
	c.wants(codes.OK)
	if n := len(f.kafka.written()); n != 0 {
		t.Errorf("%d records were written", n)
	}
}

func TestEchoOfACallWithoutEnd(t *testing.T) {
	t.Parallel()
	f := start(t, echoRoute, func(o *grpcin.Options, _ *front) { o.MaxWait = 20 * time.Millisecond })
	c := f.stream(t.Context(), t, bidi)
	c.send("a")
	if got := c.next(); got != "a" {
		t.Errorf("%q", got)
	}
	if _, err := c.rest(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("status %v", err)
	}
}
