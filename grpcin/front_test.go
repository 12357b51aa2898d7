package grpcin_test

import (
	"crypto/tls"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
)

// A listener for clients that ask for some names lets in no others, nor those that ask for none.
func TestNamesThatClientsAskFor(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	var secured *topology.ServerTLS
	f := start(t, echoRoute, func(o *grpcin.Options, _ *front) {
		secured = &topology.ServerTLS{Certificates: []tls.Certificate{authority.Issue(t, "localhost")}}
		o.Listener.TLS, o.Listener.Authorities = secured, []string{"a.example", "Localhost"}
	})
	status := func(name string) codes.Code {
		t.Helper()
		config := &tls.Config{ServerName: name, InsecureSkipVerify: true}
		return call(withPatience(t), dial(t, f.address, config), unary, "x").Status
	}
	for name, want := range map[string]codes.Code{"A.example": codes.OK, "localhost": codes.OK, "b.example": codes.Unavailable, "127.0.0.1": codes.Unavailable} {
		if got := status(name); got != want {
			t.Errorf("a client that asks for %s is answered %v, not %v", name, got, want)
		}
	}
	l := listener()
	l.TLS, l.Authorities = secured, []string{"b.example"}
	f.server.Reload(l, methods(), topology.Protos{}, nil)
	for name, want := range map[string]codes.Code{"a.example": codes.Unavailable, "b.example": codes.Unimplemented} { // it has no echo route now
		if name == "b.example" {
			l.Routes = nil
			f.server.Reload(l, methods(), topology.Protos{}, nil)
		}
		if got := status(name); got != want {
			t.Errorf("after a reload, a client that asks for %s is answered %v, not %v", name, got, want)
		}
	}
}

// Calls are told apart by their headers, those of the server's own services, too.
func TestHeadersOfCalls(t *testing.T) {
	t.Parallel()
	f := start(t, echoRoute, func(o *grpcin.Options, _ *front) {
		o.Listener.Headers = [][]topology.HeaderPattern{
			{{Name: ":path", Value: "/" + service + "/*"}, {Name: "tenant", Value: "bl*"}},
			{{Name: ":authority", Value: "127.0.0.1:*"}, {Name: "content-type", Value: "application/grpc*"}, {Name: "region", Value: "eu"}},
		}
	})
	const health = "grpc.health.v1.Health/Check"
	for _, tt := range []struct {
		method string
		md     []string
		want   codes.Code
	}{
		{unary, []string{"tenant", "blue"}, codes.OK},
		{unary, []string{"tenant", "red"}, codes.Unimplemented},
		{unary, []string{"tenant", "red", "tenant", "blue"}, codes.OK},
		{unary, nil, codes.Unimplemented},
		{unary, []string{"region", "eu"}, codes.OK},
		{health, []string{"tenant", "blue"}, codes.Unimplemented},
		{health, []string{"region", "eu"}, codes.OK},
	} {
		message := "x"
		if tt.method == health {
			message = ""
		}
		if r := f.call(withPatience(t), tt.method, message, tt.md...); r.Status != tt.want {
			t.Errorf("%s with %v is answered %v, not %v", tt.method, tt.md, r.Status, tt.want)
		}
	}
}
