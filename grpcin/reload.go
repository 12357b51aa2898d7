package grpcin

import (
	"kafkagrpc/internal/guard"
	"kafkagrpc/topology"
)

// table is what a server looks at anew for each call, and for each connection. It is never changed, but replaced.
type table struct {
	topology.Listener
	methods topology.Methods
	protos  topology.Protos
	guards  *guard.Set
}

// Reload lets calls and connections from now on be those of a listener. What is under way is not touched. Clusters and topics of its routes must
// be among those of the server's options, and those of OwnServices that they name the same.
func (s *Server) Reload(l topology.Listener, methods topology.Methods, protos topology.Protos, guards *guard.Set) {
	s.table.Store(&table{l, methods, protos, guards})
	if s.presented != nil && l.TLS != nil {
		s.presented.replace(l.TLS, l.Authorities)
	}
}
