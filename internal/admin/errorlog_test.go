package admin_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/pkitest"
)

// lines is a log that several goroutines write.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Who speaks no TLS to an address that needs it shall not fill the log.
func TestHandshakesThatFailDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	const connections = 50
	log := new(lines)
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
	if n := strings.Count(log.String(), "TLS handshake error"); n == 0 || n == connections || !strings.Contains(log.String(), "not_shown_before=") {
		t.Errorf("%d lines for %d connections: %s", n, connections, log)
	}
}
