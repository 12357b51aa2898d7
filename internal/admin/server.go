// Package admin is the HTTP server for operators: whether the process lives, whether it is ready and if not which part
// of it is not and why, and a place where other parts mount what they show.
//
// It knows nothing of Kafka, gRPC services or rows. HTTP/2 without TLS is served as well, for gRPC clients.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of the server. A handler that streams moves the deadlines of its answer with http.ResponseController.
const (
	headerTimeout = 5 * time.Second
	requestTime   = 30 * time.Second // to read a request, and to write its answer
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 3 * time.Second
	maxHeader     = 64 << 10
	maxConns      = 2048
	maxStreams    = 250 // of one HTTP/2 connection
)

// Options of a server.
type Options struct {
	// Addr is host:port, with port 0 for any that is free.
	Addr string
	// TLS makes it HTTPS; nil: HTTP.
	TLS *tls.Config
	// Guard stands before everything but /livez and /readyz. Without one, a server on an address that other machines
	// can reach shows nothing else.
	Guard func(http.Handler) http.Handler
	Log   *slog.Logger
}

// Server is one admin server. Its methods are safe for concurrent use; handlers and parts may be added while it serves.
type Server struct {
	listener net.Listener
	http     *http.Server
	guarded  *http.ServeMux
	secured  bool // by TLS; the configuration of http is not nil without, once it serves
	parts    parts
}

// Listen opens the address. Serve must be called, or Close.
func Listen(o Options) (*Server, error) {
	l, err := net.Listen("tcp", o.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the admin address is taken, probably by another instance: choose one with --admin-addr "+
			"(127.0.0.1:0 takes a free port, off goes without): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("the admin address (--admin-addr): %w", err)
	}
	s := &Server{listener: netutil.LimitListener(l, maxConns), guarded: http.NewServeMux(), secured: o.TLS != nil}
	guard := o.Guard
	if guard == nil && !loopback(l.Addr()) {
		guard = refuse
	}
	var guarded http.Handler = s.guarded
	if guard != nil {
		guarded = guard(guarded)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", livez)
	mux.HandleFunc("GET /readyz", s.parts.readyz)
	mux.Handle("/", guarded)
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTime,
		WriteTimeout:      requestTime,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Protocols:         new(http.Protocols),
		ErrorLog:          newErrorLog(log.With("part", "admin")),
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(o.TLS == nil)
	s.http.Protocols.SetHTTP2(o.TLS != nil)
	s.http.TLSConfig = o.TLS
	return s, nil
}

// Addr is the address that is listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// URL is the address as one to be asked.
func (s *Server) URL() string {
	scheme := "http://"
	if s.secured {
		scheme = "https://"
	}
	return scheme + s.Addr().String()
}

// Handle mounts a handler, with the patterns of http.ServeMux, behind the guard.
func (s *Server) Handle(pattern string, h http.Handler) { s.guarded.Handle(pattern, h) }

// Close gives up a server that does not serve.
func (s *Server) Close() error { return s.listener.Close() }

// Serve answers until ctx ends, which also ends the contexts of the requests that are answered. It returns when their
// handlers have, or after a few seconds: nil after such a stop, else why it could not go on. A server serves once.
func (s *Server) Serve(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	served := make(chan error, 1)
	go func() {
		if s.secured {
			served <- s.http.ServeTLS(s.listener, "", "") // with the certificates of its configuration
			return
		}
		served <- s.http.Serve(s.listener)
	}()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("serving the admin address %s: %w", s.Addr(), err), s.http.Close())
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := s.http.Shutdown(stop)
	if err != nil {
		err = errors.Join(fmt.Errorf("stopping the admin server: %w", err), s.http.Close())
	}
	<-served
	s.parts.end()
	return err
}

// refuse is the guard of a server that strangers can reach and nobody guards.
func refuse(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "only /livez and /readyz are shown on an address that other machines can reach", http.StatusForbidden)
	})
}

func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
