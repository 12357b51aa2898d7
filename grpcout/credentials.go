package grpcout

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// security is what a target's connections are made with.
func security(t Target) (credentials.TransportCredentials, error) {
	switch {
	case t.Scheme == "http" && t.TLS == nil:
		return insecure.NewCredentials(), nil
	case t.Scheme == "https" && t.TLS != nil:
		return namedTLS{credentials.NewTLS(t.TLS), t.TLS.ServerName}, nil
	case t.Scheme == "http" || t.Scheme == "https":
		return nil, fmt.Errorf("scheme %q contradicts the target's TLS", t.Scheme)
	}
	return nil, fmt.Errorf("scheme %q is not supported; use http or https", t.Scheme)
}

// namedTLS keeps the name that the certificate must have apart from the authority of the calls: grpc-go knows only one
// of both, and refuses a connection where they differ.
type namedTLS struct {
	credentials.TransportCredentials
	name string // "": the authority's
}

func (c namedTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if c.name != "" {
		authority = c.name
	}
	return c.TransportCredentials.ClientHandshake(ctx, authority, raw)
}

func (c namedTLS) Info() credentials.ProtocolInfo {
	info := c.TransportCredentials.Info()
	//lint:ignore SA1019 it is deprecated, and still held against the authority.
	info.ServerName = ""
	return info
}

func (c namedTLS) Clone() credentials.TransportCredentials {
	return namedTLS{c.TransportCredentials.Clone(), c.name}
}
