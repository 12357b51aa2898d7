package grpcin

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
)

// forClients is a listener for the clients that a server takes; others' connections are closed before anything is read.
type forClients struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l forClients) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.server.takes(conn.RemoteAddr()) {
			return conn, err
		}
		const what = "a connection of a client that no route is for is closed"
		l.server.logged.Of(what).Log(l.server.options.Log, slog.LevelWarn, what, "client", conn.RemoteAddr().String())
		_ = conn.Close() // nobody waits for it
	}
}

// takes reports whether the listener is for a client.
func (s *Server) takes(client net.Addr) bool {
	clients := s.table.Load().Clients
	if len(clients) == 0 {
		return true
	}
	at, ok := client.(*net.TCPAddr)
	if !ok {
		return false
	}
	// On a listener for both versions, addresses of version 4 come as those of version 6.
	address := at.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(clients, func(p netip.Prefix) bool { return p.Contains(address) })
}
