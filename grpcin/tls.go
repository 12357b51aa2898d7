package grpcin

import (
	"crypto/tls"
	"slices"
	"strings"

	"kafkagrpc/topology"
)

// tlsConfig presents a listener's certificates. Where server names are listed, a client that asks for another
// one is refused; one that asks for none, as clients do that connect to an address, is not.
func tlsConfig(t *topology.ServerTLS) *tls.Config {
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: t.Certificates,
		NextProtos:   t.ALPN, // grpc-go adds h2 where it is missing
	}
	if len(t.ServerNames) == 0 {
		return config
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		listed := slices.ContainsFunc(t.ServerNames, func(name string) bool { return strings.EqualFold(name, hello.ServerName) })
		if hello.ServerName == "" || listed {
			return nil, nil // the one above
		}
		// A configuration without a certificate makes crypto/tls answer "unrecognized name"; an error would
		// become "internal error".
		return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: t.ALPN}, nil
	}
	return config
}
