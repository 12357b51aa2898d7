package grpcin_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/internal/revocation"
	"kafkagrpc/topology"
)

// A client is let in whose certificate is not on the list of its issuer. Where there is no list that says so, it is not.
func TestRevokedClients(t *testing.T) {
	t.Parallel()
	expired := func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Hour) }
	tests := map[string]struct {
		list func(ours *pkitest.Authority, client *x509.Certificate) []byte // nil: there is none
		want codes.Code
	}{
		"good":    {func(ours *pkitest.Authority, _ *x509.Certificate) []byte { return ours.Revoke(t, nil) }, codes.OK},
		"revoked": {func(ours *pkitest.Authority, c *x509.Certificate) []byte { return ours.Revoke(t, nil, c) }, codes.Unavailable},
		"expired": {func(ours *pkitest.Authority, _ *x509.Certificate) []byte { return ours.Revoke(t, expired) }, codes.Unavailable},
		"signed by another authority": {func(*pkitest.Authority, *x509.Certificate) []byte {
			return pkitest.NewAuthority(t, "clients").Revoke(t, nil)
		}, codes.Unavailable},
		"no list": {nil, codes.Unavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours := pkitest.NewAuthority(t, "clients")
			put := ours.Publish(t)
			client := ours.Issue(t, "client")
			if tt.list != nil {
				put(tt.list(ours, client.Leaf))
			}
			address, trusting := asking(t, ours, tls.RequireAndVerifyClientCert)
			if r := call(withPatience(t), dial(t, address, trusting(client)), unary, "x"); r.Status != tt.want {
				t.Errorf("result = %+v, want %v", r, tt.want)
			}
		})
	}
	t.Run("no place for a list", func(t *testing.T) {
		t.Parallel()
		ours := pkitest.NewAuthority(t, "clients")
		address, trusting := asking(t, ours, tls.VerifyClientCertIfGiven)
		if r := call(withPatience(t), dial(t, address, trusting(ours.Issue(t, "client"))), unary, "x"); r.Status != codes.Unavailable {
			t.Errorf("result = %+v", r)
		}
		if r := call(withPatience(t), dial(t, address, trusting()), unary, "x"); r.Status != codes.OK {
			t.Errorf("without a certificate, which need not be shown: %+v", r)
		}
	})
}

// A list that could not be had at first is asked for again.
func TestRevocationListIsThereLater(t *testing.T) {
	t.Parallel()
	ours := pkitest.NewAuthority(t, "clients")
	put := ours.Publish(t)
	client := ours.Issue(t, "client")
	address, trusting := asking(t, ours, tls.RequireAndVerifyClientCert)
	if r := call(withPatience(t), dial(t, address, trusting(client)), unary, "x"); r.Status != codes.Unavailable {
		t.Errorf("before: %+v", r)
	}
	put(ours.Revoke(t, nil))
	eventually(t, "the client is let in", func() bool {
		return call(withPatience(t), dial(t, address, trusting(client)), unary, "x").Status == codes.OK
	})
}

// asking is a server that holds certificates of clients against lists.
func asking(t *testing.T, clients *pkitest.Authority, mutual tls.ClientAuthType) (address string, trusting func(...tls.Certificate) *tls.Config) {
	t.Helper()
	servers := pkitest.NewAuthority(t, "servers")
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{
			Certificates: []tls.Certificate{servers.Issue(t, "localhost")}, ClientAuth: mutual, ClientCAs: clients.Pool(),
			VerifyConnection: revocation.New(time.Now).Check,
		}
	})
	f.kafka.on = echo(t, f.calls)
	return f.address, func(c ...tls.Certificate) *tls.Config {
		return &tls.Config{ServerName: "localhost", RootCAs: servers.Pool(), Certificates: c}
	}
}
