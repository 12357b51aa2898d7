package kafka

import (
	"crypto/tls"
	"testing"
)

// Each connection has the TLS of its time.
func TestTLSOfNewConnections(t *testing.T) {
	t.Parallel()
	now := &tls.Config{ServerName: "first"}
	d := Cluster{TLS: now, TLSNow: func() *tls.Config { return now }}.dialer(patience{})
	if c := d.named("broker:9092"); c.ServerName != "first" || c.MinVersion != tls.VersionTLS12 {
		t.Errorf("got %v", c.ServerName)
	}
	now = &tls.Config{MinVersion: tls.VersionTLS13}
	if c := d.named("broker:9092"); c.ServerName != "broker" || c.MinVersion != tls.VersionTLS13 {
		t.Errorf("got %v", c.ServerName)
	}
}
