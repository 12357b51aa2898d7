package grpcin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/cors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"kafkagrpc/topology"
)

// web answers browsers, which speak gRPC-Web, over HTTP/1.1 or HTTP/2. grpc-go's transport, which is the faster one by far, knows
// neither; so the connections of browsers are served by net/http, and those of all others by grpc-go as ever. How a connection begins tells
// which it is: a plain one with the preface of HTTP/2, or not, and one with TLS with the protocols that the client offers. Browsers offer
// HTTP/1.1, too, which no gRPC client needs to. Some do all the same; they are served here as well.
type web struct {
	*Server
	allowed topology.Browsers
	calls   *grpc.Server // has no connections: each request is one
	http    *http.Server
	conns   handedOver
}

const (
	handshakeTime = 5 * time.Second  // until a connection has begun, and until a request has its headers
	idleTime      = 10 * time.Minute // of a connection without a request
)

// newWeb prepares it. options are those of the server, without credentials.
func newWeb(s *Server, limits topology.Server, options []grpc.ServerOption) *web {
	w := &web{Server: s, allowed: *s.options.Listener.Browsers, calls: grpc.NewServer(options...), conns: newHandedOver()}
	s.registerOwn(w.calls)
	settings := cors.Options{
		AllowOriginVaryRequestFunc: func(r *http.Request, _ string) (bool, []string) { return w.allows(r), nil },
		AllowedMethods:             []string{http.MethodPost},
		AllowedHeaders:             []string{"*"},
		ExposedHeaders:             []string{"*"},
		AllowCredentials:           w.allowed.Credentials,
		MaxAge:                     int(w.allowed.MaxAge / time.Second),
	}
	if h := w.allowed.Headers; len(h) > 0 {
		settings.AllowedHeaders = slices.Concat(h, []string{"content-type", "grpc-timeout", "x-grpc-web", "x-user-agent"})
	}
	if h := w.allowed.Expose; len(h) > 0 {
		settings.ExposedHeaders = h
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(w.allowed.HTTP1)
	protocols.SetHTTP2(true)
	w.http = &http.Server{
		Handler:           cors.New(settings).Handler(w),
		ReadHeaderTimeout: handshakeTime, IdleTimeout: idleTime, Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: limits.MaxConcurrentStreams, MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: connWindow,
			SendPingTimeout: limits.KeepaliveTime, PingTimeout: limits.KeepaliveTimeout,
		},
		ErrorLog: slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
	}
	return w
}

// allows reports whether the page that makes a browser ask may do so.
func (w *web) allows(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true // no browser, or no page of another origin
	}
	if w.allowed.SameOrigin {
		u, err := url.Parse(origin)
		return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
	}
	// Nor one of the address that the browser asks, where others are listed: a name of somebody else may stand for it.
	is := func(allowed string) bool { return strings.EqualFold(allowed, origin) }
	return len(w.allowed.Origins) == 0 || slices.ContainsFunc(w.allowed.Origins, is)
}

// ServeHTTP implements http.Handler. The answers of browsers' questions whether they may ask are given before.
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if !w.allows(r) {
		http.Error(rw, "pages of this origin may not call: options.access-control of the http server does not allow it", http.StatusForbidden)
		return
	}
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	kind, subtype, _ := strings.Cut(contentType, "+")
	switch {
	case kind == "application/grpc" && r.ProtoMajor == 2:
		body := newWebBody(r.Body)
		r = r.WithContext(context.WithValue(r.Context(), webBodyKey{}, body))
		r.Body = body
		w.calls.ServeHTTP(rw, r)
	case kind == grpcWeb, kind == grpcWebText:
		w.grpcWeb(rw, r, kind, subtype)
	default:
		http.Error(rw, "calls are made with gRPC over HTTP/2, or with gRPC-Web", http.StatusUnsupportedMediaType)
	}
}

// serve answers until drain or close.
func (w *web) serve() error {
	if err := w.http.Serve(w.conns); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving gRPC-Web: %w", err)
	}
	return nil
}

// drain takes no more calls, and returns when the last one has ended.
func (w *web) drain() {
	_ = w.http.Shutdown(context.Background()) // which close ends
}

// close ends all connections.
func (w *web) close() {
	_ = w.http.Close()
	w.calls.Stop()
}

// handedOver is a listener of connections that somebody else has accepted.
type handedOver struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newHandedOver() handedOver {
	h := handedOver{conns: make(chan net.Conn), closed: make(chan struct{})}
	h.close = sync.OnceFunc(func() { close(h.closed) })
	return h
}

// take hands over a connection.
func (h handedOver) take(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close() // nobody serves it
	}
}

// Accept implements net.Listener.
func (h handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h handedOver) Close() error {
	h.close()
	return nil
}

// Addr implements net.Listener.
func (h handedOver) Addr() net.Addr { return &net.TCPAddr{} }

// forWeb is a listener whose connections may be handed over.
type forWeb struct{ net.Listener }

// Accept implements net.Listener.
func (l forWeb) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &acceptedConn{Conn: c}, nil
}

// acceptedConn is a connection as grpc-go has it. When it is handed over, grpc-go takes its deadline away, which is then another one's.
type acceptedConn struct {
	net.Conn
	handedOver atomic.Bool
}

// SetDeadline implements net.Conn.
func (c *acceptedConn) SetDeadline(t time.Time) error {
	if c.handedOver.Load() {
		return nil
	}
	return c.Conn.SetDeadline(t)
}

// begin tells browsers from others by how a connection begins, and hands those of browsers over: its error is then
// [credentials.ErrConnDispatched].
func (w *web) begin(raw net.Conn, secured *tls.Config) (net.Conn, credentials.AuthInfo, error) {
	accepted, ok := raw.(*acceptedConn)
	if !ok {
		return nil, nil, errors.New("a connection that was not accepted for browsers")
	}
	if secured == nil {
		return w.beginPlain(accepted)
	}
	var offered []string
	config := secured.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offered = hello.SupportedProtos
		return secured.GetConfigForClient(hello)
	}
	conn := tls.Server(accepted.Conn, config)
	if err := conn.Handshake(); err != nil { // within the deadline of the connection
		_ = conn.Close()
		return nil, nil, err
	}
	state := conn.ConnectionState()
	switch {
	case state.NegotiatedProtocol == "" && !w.allowed.HTTP1:
		_ = conn.Close()
		return nil, nil, errors.New("the client has offered no protocol: gRPC needs h2")
	case state.NegotiatedProtocol == "h2" && !slices.Contains(offered, "http/1.1"):
		return conn, credentials.TLSInfo{State: state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
	}
	return w.handOver(accepted, conn)
}

func (w *web) handOver(accepted *acceptedConn, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	accepted.handedOver.Store(true)
	_ = accepted.Conn.SetDeadline(time.Time{})
	w.conns.take(conn)
	return nil, nil, credentials.ErrConnDispatched
}

// preface is how HTTP/2 begins, and no request of HTTP/1.1.
const preface = "PRI "

func (w *web) beginPlain(accepted *acceptedConn) (net.Conn, credentials.AuthInfo, error) {
	info := plainInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}
	if !w.allowed.HTTP1 {
		return accepted.Conn, info, nil
	}
	begun := &begunConn{Conn: accepted.Conn}
	for n := 0; n < len(preface); {
		buffer := make([]byte, len(preface)-n)
		read, err := accepted.Conn.Read(buffer)
		if err != nil {
			return nil, nil, err
		}
		begun.first = append(begun.first, buffer[:read]...)
		n += read
	}
	if string(begun.first) == preface {
		return begun, info, nil
	}
	return w.handOver(accepted, begun)
}

// plainInfo is what is known of a connection without TLS.
type plainInfo struct{ credentials.CommonAuthInfo }

// AuthType implements credentials.AuthInfo.
func (plainInfo) AuthType() string { return "insecure" }

// begunConn is a connection of which some was read already.
type begunConn struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (c *begunConn) Read(b []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.first)
	c.first = c.first[n:]
	return n, nil
}
