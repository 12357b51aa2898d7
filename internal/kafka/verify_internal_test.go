package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kafkagrpc/internal/pkitest"
)

// While a certificate is looked at, it is not the broker that is silent, however long that takes.
func TestSlowVerification(t *testing.T) {
	t.Parallel()
	const address = "verified.example:9092" // of no other test: who was silent lately is given less time
	unfit := errors.New("it is revoked")
	tests := map[string]struct {
		err  error
		want string
	}{
		"and it is good":  {nil, "the revocation lists for the certificate of " + address + " took longer than 3s"},
		"and it is unfit": {unfit, unfit.Error()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				authority := pkitest.NewAuthority(t, "authority")
				config := &tls.Config{
					Time: time.Now, RootCAs: authority.Pool(),
					VerifyConnection: func(tls.ConnectionState) error { <-time.After(4 * time.Second); return tt.err },
				}
				d := Cluster{TLS: config}.dialer(usualPatience)
				served := make(chan error, 1)
				d.connect = func(context.Context, string) (net.Conn, error) {
					near, other := net.Pipe()
					go func() {
						server := tls.Server(other, &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "verified.example")}})
						served <- errors.Join(server.Handshake(), other.Close())
					}()
					return near, nil
				}
				_, err := d.Dial("tcp", address)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if silent, ok := errors.AsType[*silentError](err); ok {
					t.Errorf("the broker counts as silent: %v", silent)
				}
				if <-served == nil {
					t.Error("the handshake ended well for the broker")
				}
			})
		})
	}
}
