package grpcin_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
)

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	authority, stranger := pkitest.NewAuthority(t, "authority"), pkitest.NewAuthority(t, "stranger")
	server := authority.Issue(t, "localhost")
	with := func(c ...tls.Certificate) *tls.Config {
		return &tls.Config{ServerName: "localhost", RootCAs: authority.Pool(), Certificates: c}
	}
	tests := []struct {
		name   string
		mutual tls.ClientAuthType
		client *tls.Config
		want   codes.Code
	}{
		{"required, ours", tls.RequireAndVerifyClientCert, with(authority.Issue(t, "client")), codes.OK},
		{"required, none", tls.RequireAndVerifyClientCert, with(), codes.Unavailable},
		{"required, a stranger's", tls.RequireAndVerifyClientCert, with(stranger.Issue(t, "client")), codes.Unavailable},
		{"requested, none", tls.VerifyClientCertIfGiven, with(), codes.OK},
		{"not asked for", tls.NoClientCert, with(), codes.OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, func(o *grpcin.Options, _ *front) {
				o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{server}, ClientAuth: tt.mutual, ClientCAs: authority.Pool()}
			})
			f.kafka.on = echo(t, f.calls)
			if r := call(withPatience(t), dial(t, f.address, tt.client), unary, "x"); r.Status != tt.want {
				t.Errorf("result = %+v, want %v", r, tt.want)
			}
		})
	}
}

// New connections get the certificates that are there when they are made; the server and the old connections stay.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	before, after := pkitest.NewAuthority(t, "before"), pkitest.NewAuthority(t, "after")
	var pending atomic.Pointer[topology.ServerTLS]
	var broken atomic.Bool
	renew := func() (*topology.ServerTLS, error) {
		if broken.Swap(false) {
			return nil, errors.New("half of a file")
		}
		return pending.Swap(nil), nil
	}
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{before.Issue(t, "localhost")}, Renew: renew}
	})
	f.kafka.on = echo(t, f.calls)
	ctx := withPatience(t)
	trusting := func(a *pkitest.Authority) *tls.Config { return &tls.Config{ServerName: "localhost", RootCAs: a.Pool()} }
	old := dial(t, f.address, trusting(before))
	if r := call(ctx, old, unary, "x"); r.Status != codes.OK {
		t.Fatalf("before: %+v", r)
	}

	broken.Store(true)
	if r := call(ctx, dial(t, f.address, trusting(before)), unary, "x"); r.Status != codes.OK {
		t.Errorf("with stores that cannot be read: %+v", r)
	}

	pending.Store(&topology.ServerTLS{Certificates: []tls.Certificate{after.Issue(t, "localhost")}, Renew: renew})
	if r := call(ctx, dial(t, f.address, trusting(after)), unary, "x"); r.Status != codes.OK {
		t.Errorf("after: %+v", r)
	}
	if r := call(ctx, dial(t, f.address, trusting(before)), unary, "x"); r.Status != codes.Unavailable || !strings.Contains(r.Text, "certificate") {
		t.Errorf("a client that trusts the old certificate only: %+v", r)
	}
	if r := call(ctx, old, unary, "x"); r.Status != codes.OK {
		t.Errorf("the old connection: %+v", r)
	}
}
