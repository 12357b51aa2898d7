package grpcout_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/internal/revocation"
	"kafkagrpc/wire/rawcodec"
)

// serveOn is serve on any listener. Calls are answered with name.
func serveOn(t *testing.T, l net.Listener, name string, options ...grpc.ServerOption) (stop func()) {
	t.Helper()
	options = append(options, grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if _, err := receive(stream); err != nil {
			return err
		}
		reply := []byte(name)
		return stream.SendMsg(&reply)
	}))
	server := grpc.NewServer(options...)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	stop = func() { server.Stop(); _ = l.Close() }
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serving: %v", err)
		}
	})
	return stop
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTLS(t *testing.T) {
	t.Parallel()
	authority, stranger := pkitest.NewAuthority(t, "authority"), pkitest.NewAuthority(t, "stranger")
	server := &tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, "echo.example")},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: authority.Pool(),
	}
	open := listen(t, "tcp", "127.0.0.1:0")
	serveOn(t, open, "open", grpc.Creds(credentials.NewTLS(server)))
	strict := server.Clone()
	strict.ClientAuth = tls.RequireAndVerifyClientCert
	closed := listen(t, "tcp", "127.0.0.1:0")
	serveOn(t, closed, "closed", grpc.Creds(credentials.NewTLS(strict)))

	trust := func(a *pkitest.Authority, name string, c ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: a.Pool(), ServerName: name, Certificates: c}
	}
	tests := []struct {
		name      string
		address   net.Listener
		authority string
		config    *tls.Config
		want      codes.Code
		text      string
	}{
		{"the name is the authority's", open, "echo.example:443", trust(authority, ""), codes.OK, ""},
		{"the name is given", open, "other.example:443", trust(authority, "echo.example"), codes.OK, ""},
		{"another name", open, "other.example:443", trust(authority, ""), codes.Unavailable, "certificate is valid for echo.example, not other.example"},
		{"not trusted", open, "echo.example:443", trust(stranger, ""), codes.Unavailable, "unknown authority"},
		{"a client certificate", closed, "echo.example:443", trust(authority, "", authority.Issue(t, "client")), codes.OK, ""},
		{"no client certificate", closed, "echo.example:443", trust(authority, ""), codes.Unavailable, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := grpcout.Target{Scheme: "https", Authority: tt.authority, Address: tt.address.Addr().String(), TLS: tt.config}
			r := newClient(t, grpcout.Options{}).Unary(withPatience(t), target, grpcout.Call{Method: method})
			if r.Status != tt.want || !strings.Contains(r.Message, tt.text) {
				t.Errorf("result = %+v, want %v with %q", r, tt.want, tt.text)
			}
		})
	}
}

// A service whose certificate was revoked is not called.
func TestRevokedService(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	put := authority.Publish(t)
	call := func(c tls.Certificate) grpcout.Result {
		l := listen(t, "tcp", "127.0.0.1:0")
		serveOn(t, l, "it", grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{c}})))
		trusting := &tls.Config{RootCAs: authority.Pool(), VerifyConnection: revocation.New(time.Now).Check}
		target := grpcout.Target{Scheme: "https", Authority: "echo.example", Address: l.Addr().String(), TLS: trusting}
		return newClient(t, grpcout.Options{}).Unary(withPatience(t), target, grpcout.Call{Method: method})
	}
	good, revoked := authority.Issue(t, "echo.example"), authority.Issue(t, "echo.example")
	if r := call(good); r.Status != codes.Unavailable || !strings.Contains(r.Message, "its revocation list cannot be had") {
		t.Errorf("without a list: %+v", r)
	}
	put(authority.Revoke(t, nil, revoked.Leaf))
	if r := call(good); r.Status != codes.OK {
		t.Errorf("not on the list: %+v", r)
	}
	if r := call(revoked); r.Status != codes.Unavailable || !strings.Contains(r.Message, "it was revoked on") {
		t.Errorf("on the list: %+v", r)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "echo.sock")
	serveOn(t, listen(t, "unix", path), "socket")
	r := newClient(t, grpcout.Options{}).Unary(withPatience(t), grpcout.Target{Scheme: "http", Authority: "localhost", Address: "unix:" + path},
		grpcout.Call{Method: method})
	if r.Status != codes.OK || string(r.Messages[0]) != "socket" {
		t.Errorf("result = %+v", r)
	}
}

// instances are servers on one port of several addresses, as a name has them.
func instances(t *testing.T, hosts ...string) (port string, stops []func()) {
	t.Helper()
	first := listen(t, "tcp", hosts[0]+":0")
	_, port, err := net.SplitHostPort(first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	stops = append(stops, serveOn(t, first, hosts[0]))
	for _, host := range hosts[1:] {
		stops = append(stops, serveOn(t, listen(t, "tcp", host+":"+port), host))
	}
	return port, stops
}

// answering calls until exactly the wanted instances answer round after round.
func answering(t *testing.T, c *grpcout.Client, target grpcout.Target, want ...string) {
	t.Helper()
	ctx := withPatience(t)
	for {
		var got []string
		for range 3 * len(want) {
			r := c.Unary(ctx, target, grpcout.Call{Method: method})
			if r.Status == codes.OK {
				got = append(got, string(r.Messages[0]))
			}
		}
		all := len(got) == 3*len(want)
		for _, w := range want {
			n := 0
			for _, g := range got {
				if g == w {
					n++
				}
			}
			all = all && n == 3
		}
		if all {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("answered by %v, want each of %v three times", got, want)
		}
	}
}

// A name with several addresses has its calls spread over all; those that are added or go away are noticed, also while
// the others are well.
func TestNamesWithSeveralAddresses(t *testing.T) {
	t.Parallel()
	port, stops := instances(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	var addresses atomic.Pointer[[]string]
	set := func(all ...string) { addresses.Store(&all) }
	set("127.0.0.1", "127.0.0.2")
	lookup := func(_ context.Context, host string) ([]string, error) {
		if host != "echo.example" {
			return nil, errors.New("another host: " + host)
		}
		return slices.Clone(*addresses.Load()), nil
	}
	c := newClient(t, grpcout.Options{Lookup: lookup, Refresh: 20 * time.Millisecond})
	target := grpcout.Target{Scheme: "http", Address: "echo.example:" + port}
	answering(t, c, target, "127.0.0.1", "127.0.0.2")
	set("127.0.0.1", "127.0.0.2", "127.0.0.3")
	answering(t, c, target, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	set("127.0.0.3")
	answering(t, c, target, "127.0.0.3")
	set("127.0.0.1", "127.0.0.2")
	stops[0]() // still named, and dead
	answering(t, c, target, "127.0.0.2")
}

// A service that comes back elsewhere is found by the failure of its connection, not by the next regular lookup.
func TestServiceThatMoves(t *testing.T) {
	t.Parallel()
	port, stops := instances(t, "127.0.0.1", "127.0.0.2")
	var address atomic.Value
	address.Store("127.0.0.1")
	var fails atomic.Bool
	lookup := func(context.Context, string) ([]string, error) {
		if fails.Load() {
			return nil, errors.New("the name server is away")
		}
		return []string{address.Load().(string)}, nil
	}
	c := newClient(t, grpcout.Options{Lookup: lookup, Refresh: time.Hour})
	target := grpcout.Target{Scheme: "http", Address: "echo.example:" + port}
	answering(t, c, target, "127.0.0.1")
	address.Store("127.0.0.2")
	stops[0]()
	answering(t, c, target, "127.0.0.2")

	// Addresses outlast the name server.
	fails.Store(true)
	answering(t, c, target, "127.0.0.2")
}

// A name that is not known yet is found soon after it is.
func TestNameThatAppears(t *testing.T) {
	t.Parallel()
	port, _ := instances(t, "127.0.0.1")
	var known atomic.Bool
	lookup := func(context.Context, string) ([]string, error) {
		if !known.Load() {
			return nil, errors.New("no such host: echo.example")
		}
		return []string{"127.0.0.1"}, nil
	}
	c := newClient(t, grpcout.Options{Lookup: lookup, Refresh: time.Hour})
	target := grpcout.Target{Scheme: "http", Address: "echo.example:" + port}
	if r := c.Unary(withPatience(t), target, grpcout.Call{Method: method}); r.Status != codes.Unavailable || !strings.Contains(r.Message, "no such host: echo.example") {
		t.Errorf("result = %+v, want UNAVAILABLE at once", r)
	}
	known.Store(true)
	answering(t, c, target, "127.0.0.1")
}
