package grpcin_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// certificate is self-signed; the pool trusts it.
func certificate(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, pool := certificate(t, "localhost", "other.example")
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{cert}, ServerNames: []string{"localhost"}, ALPN: []string{"h2"}}
	})
	f.kafka.on = echo(t, f.calls)
	tests := []struct {
		name, serverName string
		want             codes.Code
		text             string
	}{
		{"listed name", "localhost", codes.OK, ""},
		{"listed name in other case", "LocalHost", codes.OK, ""},
		{"an address is no name", "127.0.0.1", codes.OK, ""},
		{"name that is not listed", "other.example", codes.Unavailable, "unrecognized name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, f.address, &tls.Config{ServerName: tt.serverName, RootCAs: pool})
			r := call(withPatience(t), conn, unary, "x")
			if r.Status != tt.want || !strings.Contains(r.Text, tt.text) {
				t.Errorf("result = %+v, want %v with %q", r, tt.want, tt.text)
			}
		})
	}
	t.Run("plaintext", func(t *testing.T) {
		t.Parallel()
		if r := call(withPatience(t), dial(t, f.address, nil), unary, "x"); r.Status != codes.Unavailable {
			t.Errorf("result = %+v, want UNAVAILABLE", r)
		}
	})
	t.Run("ALPN", func(t *testing.T) {
		t.Parallel()
		dialer := tls.Dialer{Config: &tls.Config{ServerName: "localhost", RootCAs: pool, NextProtos: []string{"http/1.1", "h2"}}}
		conn, err := dialer.DialContext(withPatience(t), "tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "h2" {
			t.Errorf("protocol %q, want h2", got)
		}
	})
}

func TestTLSWithoutServerNames(t *testing.T) {
	t.Parallel()
	a, _ := certificate(t, "a.example")
	b, pool := certificate(t, "b.example")
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{a, b}}
	})
	f.kafka.on = echo(t, f.calls)
	// The second certificate is the one that fits.
	conn := dial(t, f.address, &tls.Config{ServerName: "b.example", RootCAs: pool})
	if r := call(withPatience(t), conn, unary, "x"); r.Status != codes.OK {
		t.Errorf("result = %+v", r)
	}
}

func TestStopLetsCallsFinish(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, _ *front) { o.Drain = patience })
	f.kafka.sent = make(chan wire.Record, 2)
	ctx := withPatience(t)
	results := make(chan result, 1)
	go func() { results <- f.call(ctx, unary, "x") }()
	<-f.kafka.sent
	waiting := request(t, <-f.kafka.sent)
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	// The port is closed before the call is answered: the server is stopping.
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.DialTimeout("tcp", f.address, patience)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	reply := wire.Reply{CorrelationID: waiting.CorrelationID, Call: waiting.Call}
	f.calls.Deliver(message(reply, "y"))
	f.calls.Deliver(end(reply))
	if r := <-results; r.Status != codes.OK || r.Message != "y" {
		t.Errorf("the call in flight: %+v", r)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if r := f.call(ctx, unary, "x"); r.Status != codes.Unavailable {
		t.Errorf("a call after the stop: %+v, want UNAVAILABLE", r)
	}
}

func TestStopCutsCalls(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, _ *front) { o.Drain = time.Millisecond })
	f.kafka.sent = make(chan wire.Record, 20)
	ctx := withPatience(t)
	var callers sync.WaitGroup
	for range 10 {
		callers.Go(func() {
			if r := f.call(ctx, unary, "x"); r.Status != codes.Unavailable || !strings.Contains(r.Text, "server is stopping") {
				t.Errorf("result = %+v, want UNAVAILABLE", r)
			}
		})
	}
	for range 20 {
		<-f.kafka.sent
	}
	if err := f.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	callers.Wait()
}

func TestServeFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := grpcin.NewServer(grpcin.Options{
		Listener: topology.Listener{}, Calls: grpcin.NewCalls(nil, grpcin.Limits{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(withPatience(t), l); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error = %v, want one that names the address", err)
	}
}

func TestServeAfterItsContextEnded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := grpcin.NewServer(grpcin.Options{Calls: grpcin.NewCalls(nil, grpcin.Limits{})})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := server.Serve(ctx, l); err != nil {
		t.Error(err)
	}
	if conn, err := net.DialTimeout("tcp", l.Addr().String(), patience); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
}

func TestNewServerNamesAllThatIsMissing(t *testing.T) {
	t.Parallel()
	const sender = `binding "north_grpc_kafka": no sender for the cluster of topic "echo-requests"`
	const reader = `binding "north_grpc_kafka": no reader for the cluster of topic "echo-responses"`
	tests := []struct {
		name  string
		calls *grpcin.Calls
		want  []string
	}{
		{"no calls", nil, []string{sender, reader, "Options.Calls is missing"}},
		{"calls of other listeners", grpcin.NewCalls(nil, grpcin.Limits{}), []string{
			sender, reader, `binding "north_grpc_kafka": Options.Calls was made without the route that replies to topic "echo-responses"`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := grpcin.NewServer(grpcin.Options{Listener: listener(), Calls: tt.calls})
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v, want one with %q", err, want)
				}
			}
		})
	}
}
