package partition

import (
	"kafkagrpc/grpcout"
	"kafkagrpc/topology"
)

// TargetOf is the service of a route, as grpcout calls it. Equal targets are equal there too, as each tls client binding
// has one configuration.
func TargetOf(t topology.Target) grpcout.Target {
	out := grpcout.Target{
		Scheme: t.Scheme, Authority: t.Authority, Address: t.Address,
		MaxMessageBytes: t.MaxMessage, Compression: t.Compression,
	}
	if t.TLS != nil {
		out.TLS = t.TLS.Config
	}
	return out
}
