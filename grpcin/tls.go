package grpcin

import (
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"kafkagrpc/topology"
)

// presented is what a listener shows to its clients, and asks them for. It follows the stores on disk.
type presented struct {
	log *slog.Logger

	mu     sync.Mutex
	asked  []string // names of which clients must ask for one; none: any
	now    *topology.ServerTLS
	config *tls.Config
}

func newPresented(t *topology.ServerTLS, asked []string, log *slog.Logger) *presented {
	return &presented{log: log, asked: asked, now: t, config: configOf(t)}
}

// tlsConfig presents a listener's certificates. Where server names are listed, a client that asks for another
// one is refused; one that asks for none, as clients do that connect to an address, is not.
func (p *presented) tlsConfig() *tls.Config {
	config := p.config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if p.takes(hello.ServerName) {
			return p.current(), nil
		}
		// A configuration without a certificate makes crypto/tls answer "unrecognized name"; an error would
		// become "internal error".
		return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}, nil
	}
	return config
}

// takes reports whether the listener is for clients that ask for a name, "" for none.
func (p *presented) takes(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	is := func(listed string) bool { return strings.EqualFold(listed, name) }
	if len(p.asked) > 0 && !slices.ContainsFunc(p.asked, is) {
		return false
	}
	return len(p.now.ServerNames) == 0 || name == "" || slices.ContainsFunc(p.now.ServerNames, is)
}

// replace is for connections from now on.
func (p *presented) replace(t *topology.ServerTLS, asked []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.now
	p.now, p.config, p.asked = t, configOf(t), asked
	same := func(a, b tls.Certificate) bool { return slices.EqualFunc(a.Certificate, b.Certificate, slices.Equal) }
	if !slices.EqualFunc(before.Certificates, t.Certificates, same) {
		p.tell()
	}
}

// tell logs what is presented. It is called under mu.
func (p *presented) tell() {
	for _, c := range p.now.Certificates {
		p.log.Info("new connections get another certificate", "subject", c.Leaf.Subject.String(), "expires", c.Leaf.NotAfter)
	}
}

// configOf presents the certificate that suits a client, else the first.
func configOf(t *topology.ServerTLS) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: t.Certificates,
		NextProtos:   protocols(t),
		ClientAuth:   t.ClientAuth,
		ClientCAs:    t.ClientCAs,

		VerifyConnection: t.VerifyConnection,
	}
}

// protocols are those that are offered; a gRPC client needs h2.
func protocols(t *topology.ServerTLS) []string {
	if len(t.ALPN) == 0 {
		return []string{"h2"}
	}
	return t.ALPN
}

// current is the configuration for the next connection. Stores that cannot be read leave it as it was.
func (p *presented) current() *tls.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.Renew == nil {
		return p.config
	}
	next, err := p.now.Renew()
	switch {
	case err != nil:
		p.log.Error("the certificates have changed and cannot be used, so new connections get the old ones", "error", err)
	case next != nil:
		p.now, p.config = next, configOf(next)
		p.tell()
	}
	return p.config
}
