package conformance_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // for callers that compress
	"google.golang.org/grpc/metadata"

	"google.golang.org/protobuf/encoding/protowire"

	"kafkagrpc/wire/rawcodec"
)

// text is a message of conformance.proto.
func text(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), s)
}

// textOf is the text of a message.
func textOf(message []byte) string {
	_, _, n := protowire.ConsumeTag(message)
	s, _ := protowire.ConsumeString(message[max(n, 0):])
	return s
}

// handler is a script for the calls of one idempotency key.
type handler func(call *serviceCall) error

// service is the gRPC service that the program calls. Each scenario scripts what becomes of its keys.
type service struct {
	port   string
	server *grpc.Server

	otherwise handler // for keys without a script; set before the first call

	mu      sync.Mutex
	scripts map[string]handler
	calls   map[string]int // by key
	open    map[string]int // by key, calls that have not returned
}

func newService(t *testing.T) *service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	s := &service{port: port, scripts: map[string]handler{}, calls: map[string]int{}, open: map[string]int{}}
	s.server = grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.WaitForHandlers(true),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return s.handle(stream) }))
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(l) }()
	t.Cleanup(func() {
		s.server.Stop()
		must(t, <-served)
	})
	return s
}

func (s *service) script(key string, h handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[key] = h
}

// callsOf is how many calls with a key have begun, and how many of them have not returned.
func (s *service) callsOf(key string) (begun, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[key], s.open[key]
}

// openCalls is how many keys have a call that has not returned.
func (s *service) openCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *service) handle(stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	var key string
	if keys := md["idempotency-key"]; len(keys) > 0 {
		key = keys[0]
	}
	method, _ := grpc.MethodFromServerStream(stream)
	s.mu.Lock()
	s.calls[key]++
	s.open[key]++
	n, h := s.calls[key], s.scripts[key]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[key]--; s.open[key] == 0 {
			delete(s.open, key)
		}
	}()
	if h == nil {
		h = s.otherwise
	}
	if h == nil {
		return errors.New("no scenario has scripted the key " + key)
	}
	return h(&serviceCall{stream, method, md, n})
}

// serviceCall is one call as the service sees it.
type serviceCall struct {
	grpc.ServerStream
	method string
	md     metadata.MD
	n      int // 1 for the first call of the key
}

// receive is the next message; an error at the caller's half-close is io.EOF.
func (c *serviceCall) receive() (string, error) {
	var message []byte
	if err := c.RecvMsg(&message); err != nil {
		return "", err
	}
	return textOf(message), nil
}

func (c *serviceCall) send(s string) error {
	message := text(s)
	return c.SendMsg(&message)
}

// receiveAll are the messages up to the caller's half-close.
func (c *serviceCall) receiveAll() (all []string, err error) {
	for {
		s, err := c.receive()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
}

// untilCanceled returns when the call is given up.
func (c *serviceCall) untilCanceled(ctx context.Context) error {
	select {
	case <-c.Context().Done():
		return c.Context().Err()
	case <-ctx.Done():
		return errors.New("the call was not canceled")
	}
}

// echo sends each message back as it comes.
func echo(c *serviceCall) error {
	for {
		s, err := c.receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = c.send(s)
		}
		if err != nil {
			return err
		}
	}
}

// rawService is a service that speaks HTTP/2 and leaves it to the scenario whether that is gRPC.
type rawService struct {
	port string

	mu      sync.Mutex
	scripts map[string]http.HandlerFunc // by idempotency key
}

func newRawService(t *testing.T) *rawService {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	s := &rawService{port: port, scripts: map[string]http.HandlerFunc{}}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: s, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		must(t, server.Close())
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

func (s *rawService) script(key string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[key] = h
}

func (s *rawService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.scripts[r.Header.Get("Idempotency-Key")]
	s.mu.Unlock()
	if h == nil {
		http.Error(w, "no scenario has scripted this key", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header()["Date"] = nil // would differ from run to run
	h(w, r)
}
