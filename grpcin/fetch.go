package grpcin

import (
	"context"
	"maps"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Fetcher reads topics for calls. It must be safe for concurrent use.
type Fetcher interface {
	// Fetch reads a topic on and on. It calls begun once it knows that it can, and then each for one record after the other, in order for
	// those of a partition, of which only so many are read ahead. It ends with ctx, an error of begun or each, or one of its own that is the status
	// of the call, and leaves nothing behind.
	Fetch(ctx context.Context, f Fetched, begun func() error, each func(wire.Record) error) error
}

// Fetched is what a call reads.
type Fetched struct {
	Topic string
	Next  map[int32]int64 // the offset to read next, by partition; one that is not named is read from its oldest record on
	Group string          // "": all partitions are read; else those that this call gets of what the calls of this group share out
}

// FetchGroup is the metadata with which callers share a topic.
const FetchGroup = "fetch-group"

// fetching is a call that reads a topic.
type fetching struct {
	*call
	server *Server
	stream grpc.ServerStream

	group    string
	span     trace.Span      // nil where the call is not traced
	next     map[int32]int64 // as of the last record
	messages int64
	counts   func()
}

var errStoppingFetch = status.Error(codes.Unavailable, "the server is stopping; go on at another one")

// fetch answers a call with what its route's topic holds, and what comes.
func (s *Server) fetch(stream grpc.ServerStream, route topology.NorthRoute, name string, until time.Time) (err error) {
	f := s.newFetching(stream, route, name)
	f.until = until
	defer func() { f.observeEnd(err) }()
	if method, known := s.table.Load().methods[name]; known && !method.ServerStreams {
		return status.Errorf(codes.Unimplemented, "method %s answers with one message, and its route reads a topic, which has any number", name)
	}
	what, err := fetched(stream.Context(), route)
	if err != nil {
		return err
	}
	leave, err := s.options.Calls.fetch(route)
	if err != nil {
		return err
	}
	defer leave()
	f.group, f.next = what.Group, maps.Clone(what.Next)
	if f.next == nil {
		f.next = map[int32]int64{}
	}
	defer f.observeFetch(&err)()
	ctx, cancel := context.WithCancelCause(stream.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tokenEnded, stop := f.ends()
		defer stop()
		select {
		case <-tokenEnded:
			cancel(errTokenEnded)
		case <-s.leaving:
			cancel(errStoppingFetch)
		case <-ctx.Done():
		}
	}()
	defer func() {
		cancel(nil)
		<-ended
	}()
	s.receivers.Go(func() { f.receive(cancel) }) // it ends soon after the handler, which ends its stream
	err = s.options.Fetchers[route.Cluster.Binding].Fetch(ctx, what, f.begin, f.give)
	switch {
	case stream.Context().Err() != nil:
		return status.FromContextError(stream.Context().Err()).Err()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	s.warn(f.call, "a topic cannot be read for a call", "topic", route.Topic, "group", what.Group, "error", status.Convert(err).Message())
	return err
}

// fetched is what a call wants to read. An error is the status of the call.
func fetched(ctx context.Context, route topology.NorthRoute) (Fetched, error) {
	what := Fetched{Topic: route.Topic}
	id, hasID, err := one(ctx, route.Fetch.Metadata)
	if err != nil {
		return what, err
	}
	name, shares, err := one(ctx, FetchGroup)
	if err != nil {
		return what, err
	}
	if hasID && shares {
		return what, status.Errorf(codes.InvalidArgument, "metadata %s and %s exclude each other: a group knows by itself where to go on", route.Fetch.Metadata, FetchGroup)
	}
	if hasID {
		decode := wire.DecodeProgressText
		if strings.HasSuffix(route.Fetch.Metadata, "-bin") {
			decode = func(s string) (map[int32]int64, error) { return wire.DecodeProgress([]byte(s)) }
		}
		if what.Next, err = decode(id); err != nil {
			return what, status.Errorf(codes.InvalidArgument, "metadata %s: %v", route.Fetch.Metadata, err)
		}
	}
	if shares {
		if what.Group, err = route.Fetch.GroupOf(name); err != nil {
			return what, status.Errorf(codes.InvalidArgument, "metadata %s: %v", FetchGroup, err)
		}
	}
	return what, nil
}

// one is the value of metadata that may be there once.
func one(ctx context.Context, name string) (value string, ok bool, err error) {
	values := metadata.ValueFromIncomingContext(ctx, name)
	if len(values) > 1 {
		return "", false, status.Errorf(codes.InvalidArgument, "metadata %s is there %d times", name, len(values))
	}
	return strings.Join(values, ""), len(values) == 1, nil
}

// begin tells the caller that reading has begun, before there is a message.
func (f *fetching) begin() error { return f.stream.SendHeader(metadata.MD{}) }

// give gives the caller a record, unless it is not for calls of the route.
func (f *fetching) give(r wire.Record) error {
	f.next[r.Partition] = r.Offset + 1
	if r.Value == nil || !f.route.Fetch.Takes(r) {
		return nil
	}
	if why := f.server.unfit(f.route.Replies, r.Key, r.Value); why != "" {
		f.server.warn(f.call, "a record is left out of what a call reads", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "reason", why)
		return nil
	}
	id := wire.EncodeProgress(f.next)
	const overhead = 16 // of the field
	message := append(make([]byte, 0, len(r.Value)+len(id)+overhead), r.Value...)
	message = wire.AppendMessageID(message, f.route.Fetch.Field, id)
	if err := f.stream.SendMsg(&message); err != nil {
		return err
	}
	f.messages++
	f.counts()
	return nil
}

// receive takes what the caller sends, which says nothing.
func (f *fetching) receive(cancel context.CancelCauseFunc) {
	ctx, intake := f.stream.Context(), f.server.options.Calls.requests
	for {
		err := intake.room(ctx)
		var message []byte
		if err == nil {
			err = f.stream.RecvMsg(&message)
		}
		if err != nil {
			if status.Code(err) != codes.Unknown { // its end is no status
				cancel(err)
			}
			return
		}
	}
}

// newFetching begins with what telemetry tells of the call.
func (s *Server) newFetching(stream grpc.ServerStream, route topology.NorthRoute, name string) *fetching {
	t := s.options.Telemetry
	f := &fetching{call: &call{route: route, request: nameOf(name), answers: true}, server: s, stream: stream, counts: t.Metrics.Fetches(name, route.Topic)}
	f.since, f.offset = time.Now(), -1
	md, _ := metadata.FromIncomingContext(stream.Context())
	f.request.Trace.Parent = first(md, "traceparent")
	counted := t.Metrics.Begun(name, route.Topic)
	f.done = func(err error) {
		code := status.Code(err)
		counted(code)
		t.Events.Print(telemetry.Event{
			Name: "call", Binding: s.options.Listener.Binding, Method: name, Topic: route.Topic, Group: f.group, Messages: f.messages, Offset: -1,
			Status: code, Took: time.Since(f.since), Span: trace.SpanContextFromContext(stream.Context()), Caller: f.request.Trace,
		})
	}
	return f
}

// observeFetch begins with what telemetry tells of the reading; end, with the status of the call, ends that.
func (f *fetching) observeFetch(err *error) (end func()) {
	t := f.server.options.Telemetry
	left := t.Metrics.Fetching(f.route.Binding, f.route.Topic)
	if t.Tracing {
		_, f.span = f.server.tracer.Start(f.stream.Context(), "receive "+f.route.Topic, telemetry.Client...)
		f.span.SetAttributes(telemetry.Fetch(f.route.Topic, f.group, f.request.FullMethod())...)
	}
	return func() {
		left()
		if f.span != nil {
			s := status.Convert(*err)
			f.span.SetAttributes(telemetry.Count(f.messages))
			telemetry.SetStatus(f.span, s.Code(), s.Message())
			f.span.End()
		}
	}
}
