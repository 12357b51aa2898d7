package admin_test

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"testing"

	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/pkitest"
)

// Who speaks no TLS to an address that needs it shall not fill the log.
func TestHandshakesThatFailDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	const connections = 50
	log := new(logtest.Lines)
	s, stop := serve(t, admin.Options{
		TLS: &tls.Config{Certificates: []tls.Certificate{pkitest.NewAuthority(t, "ours").Issue(t, "127.0.0.1")}},
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	for range connections {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("no handshake")); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, c) // until the server has closed the connection, which it logs before
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	if n := log.Count("TLS handshake error"); n == 0 || n == connections || log.Count("not_shown_before=") == 0 {
		t.Errorf("%d lines for %d connections: %s", n, connections, log)
	}
}
