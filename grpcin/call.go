package grpcin

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// call is one attempt of a caller.
type call struct {
	observed
	route   topology.NorthRoute
	request wire.Request
	out     *outbound

	sends, answers bool // that side may have any number of messages: the catalogs say so, or do not know the method

	until time.Time // what the caller is known from counts until then; zero: nobody asks

	begun bool // the initial metadata is known, and goes out with the first message or the status

	last atomic.Int64 // when a message was passed on, in Unix nanoseconds
}

var errStopping = status.Error(codes.Unavailable, "the server is stopping; try again with the same idempotency key")

// serve answers one call. The error is its status.
func (s *Server) serve(stream grpc.ServerStream) (err error) {
	name, _ := grpc.MethodFromServerStream(stream)
	name = strings.TrimPrefix(name, "/")
	route, until, err := s.route(stream.Context(), name)
	if err != nil {
		return err
	}
	switch {
	case route.Target != nil:
		return s.direct(stream, route, name, until)
	case route.Fetch != nil:
		return s.fetch(stream, route, name, until)
	}
	request, err := s.newRequest(stream.Context(), route, name)
	if err != nil {
		return err
	}
	method, known := s.table.Load().methods[name]
	c := &call{route: route, request: request, until: until, sends: !known || method.ClientStreams, answers: !known || method.ServerStreams}
	s.observe(stream, c)
	defer func() {
		s.warnOfKafka(stream.Context(), c, err)
		c.observeEnd(err)
	}()
	c.out = newOutbound(s.options.Senders[route.Cluster.Binding], s.options.Calls.requests, route.Topic, c.key(), c.headers(), route.ReplyTo != "", c.sent)
	// Before anything is sent: the answer may come before Kafka's acknowledgement does.
	w := newWaiter(route.Contract, request, !c.answers)
	if err := s.options.Calls.wait(w); err != nil {
		return err
	}
	defer s.options.Calls.forget(w)
	if route.ReplyTo == "" {
		return s.oneWay(stream, c)
	}
	return s.exchange(stream, c, w)
}

// admits says why the http server has no route for a call, or answers nil.
func (s *Server) admits(ctx context.Context, path string) error {
	if s.table.Load().Takes(func(name string) []string {
		if name == ":path" {
			return []string{path}
		}
		return metadata.ValueFromIncomingContext(ctx, name)
	}) {
		return nil
	}
	return status.Errorf(codes.Unimplemented, "method %s: no route takes a call with such headers", strings.TrimPrefix(path, "/"))
}

// route is the first one that takes a call, and until when the caller may take it; zero: for ever.
func (s *Server) route(ctx context.Context, name string) (_ topology.NorthRoute, until time.Time, err error) {
	now := s.table.Load()
	var a *asker
	for _, r := range now.Routes {
		if !r.Matches(name) || len(r.Metadata) > 0 && !r.Takes(func(name string) []string { return metadata.ValueFromIncomingContext(ctx, name) }) {
			continue
		}
		if len(r.Guarded) == 0 {
			return r, time.Time{}, nil
		}
		if a == nil {
			a = &asker{Server: s, table: now, ctx: ctx}
		}
		refusal := a.passes(r)
		if refusal == nil {
			if r, refusal = a.filled(r); refusal == nil {
				return r, a.until(r), nil
			}
		}
		if _, lacking := refusal.(*lacks); lacking || err == nil {
			err = refusal // that a caller is known, and may not, says more than that another guard does not know it
		}
	}
	if err != nil {
		return topology.NorthRoute{}, time.Time{}, s.refused(name, err)
	}
	return topology.NorthRoute{}, time.Time{}, status.Errorf(codes.Unimplemented, "method %s: no route takes it", name)
}

// newRequest is what the headers of the call's records say.
func (s *Server) newRequest(ctx context.Context, route topology.NorthRoute, name string) (wire.Request, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	m := s.withoutTokens(wire.FromMD(md), route)
	key, given := m.Get(route.Contract.IdempotencyMetadata)
	if !given {
		key = newUUID()
	} else if err := wire.CheckIdempotencyKey(key); err != nil {
		return wire.Request{}, status.Errorf(codes.InvalidArgument, "metadata %s: %v", route.Contract.IdempotencyMetadata, err)
	}
	r := nameOf(name)
	r.ReplyTo, r.Call, r.Metadata = route.ReplyTo, rand.Text(), m
	r.CorrelationID = route.Contract.ScopeID(key, r.Service, r.Method, r.ReplyTo, route.Overrides)
	r.Deadline, _ = ctx.Deadline()
	// Without a span of our own it was the caller's that made the records.
	r.Trace.Parent, _ = m.Get("traceparent")
	r.Trace.State, _ = m.Get("tracestate")
	r.Trace.Baggage, _ = m.Get("baggage")
	return r, nil
}

// nameOf is a request of a method alone.
func nameOf(name string) wire.Request {
	slash := strings.LastIndexByte(name, '/') // grpc-go refuses names without one
	return wire.Request{Service: name[:slash], Method: name[slash+1:]}
}

// newUUID is a random UUID, version 4.
func newUUID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// key is the key of the call's records.
func (c *call) key() []byte {
	if c.route.Key != "" {
		return []byte(c.route.Key)
	}
	return []byte(c.request.CorrelationID)
}

// headers are those of every record of the call.
func (c *call) headers() []wire.Header {
	if c.route.ReplyTo == "" {
		// Nobody answers, so nothing but the metadata concerns a reader.
		return c.route.Contract.EncodeRequest(wire.Request{Metadata: c.request.Metadata}, c.route.Overrides)
	}
	return c.route.Contract.EncodeRequest(c.request, c.route.Overrides)
}

// touch notes that a message was passed on.
func (c *call) touch() { c.last.Store(time.Now().UnixNano()) }
