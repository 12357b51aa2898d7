// Package grpcin is the gRPC server in front: it routes a call to a request topic, writes its records there,
// and answers the caller with the records that come back on the reply topic. A call whose route leads to a service directly is passed
// on to it as it comes, and one whose route reads a topic is given the records of that.
//
// It knows nothing of who processes the requests, nor of a Kafka client: records leave through a [Sender], come in
// through [Calls.Deliver], and are read once more through a [Reader] for callers that are slower than their replies; topics are read
// through a [Fetcher]. Nor does it know how services are called: [Services] does.
//
// Every call is a stream of messages in either direction, passed on as they come. What the catalogs know of a method
// makes it stricter: a side that sends one message sends exactly one, and of a single reply the latest one before the
// end counts. Metadata reaches the record in the order of its names, because grpc-go keeps it in a map; the values of
// one name keep their order.
package grpcin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // for callers that compress
	"google.golang.org/grpc/keepalive"

	"kafkagrpc/internal/guard"
	"kafkagrpc/internal/loglimit"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Sender writes records to Kafka. It must write records with one key that are sent one after the other in their
// order, and call done exactly once for each, possibly on a goroutine where done must not wait. Records that share a pin
// must lie in one partition, which the pin tells once the first of them is written.
type Sender interface {
	SendPinned(r wire.Record, pin *wire.Pin, done func(offset int64, err error))
}

// Reader reads records of a reply topic that were delivered before: those of a partition from an offset on and below
// another one. It calls each in order and ends with each's first error. Where one of the records is gone it fails.
type Reader interface {
	Read(ctx context.Context, topic string, partition int32, from, to int64, each func(wire.Record) error) error
}

// Models checks keys and values. Safe for concurrent use.
type Models interface {
	// Check says why a key or value does not fit, without it.
	Check(by *topology.Model, value []byte) error
	// Extract answers a field of a message as text; nil: it is not there.
	Extract(e topology.Extraction, message []byte) ([]byte, error)
}

// Options of a server. Listener, Senders, Readers and Calls are needed.
type Options struct {
	Listener topology.Listener
	Methods  topology.Methods   // what the catalogs know
	Protos   topology.Protos    // what reflection tells; of it, the services that a route takes
	Senders  map[string]Sender  // by Cluster.Binding, for each cluster that a route names
	Readers  map[string]Reader  // by Cluster.Binding, for each cluster that a route with a reply topic names
	Calls    *Calls             // shared by all servers of the process
	Services Services           // for routes that lead to a service
	Fetchers map[string]Fetcher // by Cluster.Binding, for each cluster that a route reads
	Guards   *guard.Set         // for routes that are guarded

	// Rejected tells errors of a Sender that sending again would not cure (INTERNAL), and TooLarge those of a record that its
	// topic does not take (RESOURCE_EXHAUSTED), from an unreachable Kafka (UNAVAILABLE). Default: all are of the last kind.
	Rejected, TooLarge func(error) bool

	// Models checks what routes say of records, and finds the fields that they put into them. Needed where one says something.
	Models Models

	Drain time.Duration // what calls in flight get when the server stops, default 10s
	// MaxWait is how long a call without a deadline waits: a unary one for its answer, a stream for the next message
	// in either direction. Default 10m.
	MaxWait time.Duration
	Log     *slog.Logger // default: none

	Telemetry *telemetry.Telemetry // default: nothing is told
}

// Server serves one listener. It is safe for concurrent use.
type Server struct {
	options    Options
	table      atomic.Pointer[table]
	server     *grpc.Server
	web        *web       // nil where browsers may not call
	maxMessage int        // bytes
	presented  *presented // nil without TLS
	health     *healthService
	tracer     trace.Tracer
	logged     *loglimit.Kinds // of what goes wrong with call after call
	receivers  sync.WaitGroup  // of the messages of callers
	leaving    chan struct{}   // closed when the server takes no more calls
	stopping   chan struct{}   // closed when calls in flight are cut
}

// logInterval is how often a fault that repeats with every call is logged.
const logInterval = time.Second

// lastWords is how long callers get to take in the status of calls that are cut.
const lastWords = time.Second

// What callers may send ahead, in bytes: of one call, and of all calls of a connection.
const (
	streamWindow = 256 << 10
	connWindow   = 16 << 20
)

// NewServer checks the options and prepares a server.
func NewServer(o Options) (*Server, error) {
	var problems []error
	if o.Calls == nil {
		problems = append(problems, errors.New("grpcin: Options.Calls is missing"))
	}
	for _, r := range o.Listener.Routes {
		if len(r.Guarded) > 0 && o.Guards == nil {
			problems = append(problems, fmt.Errorf("grpcin: binding %q: nobody knows who calls, and its route is guarded", r.Binding))
		}
		if r.Target != nil {
			if o.Services == nil && r.Target.Scheme != topology.Echo {
				problems = append(problems, fmt.Errorf("grpcin: binding %q: nothing calls services, and its route leads to %s", r.Binding, r.Target))
			}
			continue
		}
		if r.Fetch != nil {
			if r.Cluster == nil || o.Fetchers[r.Cluster.Binding] == nil {
				problems = append(problems, fmt.Errorf("grpcin: binding %q: nothing reads the cluster of topic %q", r.Binding, r.Topic))
			}
			continue
		}
		if r.Cluster == nil || o.Senders[r.Cluster.Binding] == nil {
			problems = append(problems, fmt.Errorf("grpcin: binding %q: no sender for the cluster of topic %q", r.Binding, r.Topic))
		}
		if r.ReplyTo != "" && (r.Cluster == nil || o.Readers[r.Cluster.Binding] == nil) {
			problems = append(problems, fmt.Errorf("grpcin: binding %q: no reader for the cluster of topic %q", r.Binding, r.ReplyTo))
		}
		if o.Calls != nil && !o.Calls.knows(r) {
			problems = append(problems, fmt.Errorf("grpcin: binding %q: Options.Calls was made without the route that replies to topic %q", r.Binding, r.ReplyTo))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if o.Rejected == nil {
		o.Rejected = func(error) bool { return false }
	}
	if o.TooLarge == nil {
		o.TooLarge = func(error) bool { return false }
	}
	if o.Drain == 0 {
		o.Drain = 10 * time.Second
	}
	if o.MaxWait == 0 {
		o.MaxWait = 10 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("binding", o.Listener.Binding)
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Off()
	}
	s := &Server{options: o, logged: loglimit.NewKinds(logInterval), tracer: o.Telemetry.Tracers.Tracer("kafkagrpc/grpcin"), health: newHealthService(), leaving: make(chan struct{}), stopping: make(chan struct{})}
	limits := o.Listener.Server.WithDefaults()
	s.maxMessage = limits.MaxMessage
	s.table.Store(&table{o.Listener, o.Methods, o.Protos, o.Guards})
	options := append(o.Telemetry.ServerOptions(o.Listener.GRPC), // first, so that calls that are not admitted have spans, too
		grpc.ForceServerCodecV2(codec{}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return s.serve(stream) }),
		grpc.WaitForHandlers(true),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if err := s.admits(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handler(srv, stream)
		}),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := s.admits(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handler(ctx, request)
		}),
		grpc.MaxRecvMsgSize(limits.MaxMessage),
		grpc.MaxHeaderListSize(maxHeaderList),
		// What comes of a message before it is asked for. grpc-go would let it grow to 16 MiB with the speed of a connection;
		// a message that is asked for comes whole in any case.
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.MaxConcurrentStreams(uint32(limits.MaxConcurrentStreams)),
		// grpc-go does not stop before connections that are being set up are, so this bounds the stop as well.
		grpc.ConnectionTimeout(5*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			// A caller that vanished would otherwise hold its place among the waiting calls.
			Time: limits.KeepaliveTime, Timeout: limits.KeepaliveTimeout,
			MaxConnectionAge: limits.MaxConnectionAge, MaxConnectionAgeGrace: limits.MaxConnectionAgeGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			// To grpc-go 0 is five minutes, and a negative one takes any.
			MinTime: limits.KeepaliveMinTime, PermitWithoutStream: true,
		}),
		grpc.ChainStreamInterceptor(s.guardReflection),
	)
	begins := listening{TransportCredentials: insecure.NewCredentials()}
	if t := o.Listener.TLS; t != nil {
		s.presented = newPresented(t, o.Listener.Authorities, o.Log)
		begins.secured = s.presented.tlsConfig()
		begins.TransportCredentials = credentials.NewTLS(begins.secured)
	}
	if o.Listener.Browsers != nil {
		s.web = newWeb(s, limits, append(slices.Clone(options), grpc.ChainStreamInterceptor(pace)))
		begins.web = s.web
	}
	s.server = grpc.NewServer(append(options, grpc.Creds(begins))...)
	s.registerOwn(s.server)
	return s, nil
}

// SetReady says whether calls can be answered, which health checks ask for. A server is not ready before, and from
// the moment on in which it stops.
func (s *Server) SetReady(ready bool) { s.health.set(ready) }

// Serve accepts calls from l until ctx ends, and closes l. Then it takes no more calls; those in flight get the
// drain time, and what is left ends with UNAVAILABLE. It returns when all handlers have: nil after such a stop,
// else why it could not go on. A server serves once.
func (s *Server) Serve(ctx context.Context, l net.Listener) (err error) {
	l = forClients{l, s}
	if s.web != nil {
		l = forWeb{l}
		forBrowsers := make(chan error, 1)
		go func() { forBrowsers <- s.web.serve() }()
		defer func() { err = errors.Join(err, <-forBrowsers) }()
	}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(l) }()
	select {
	case err := <-served:
		s.stop()
		return fmt.Errorf("serving gRPC on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.stop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving gRPC on %s: %w", l.Addr(), err)
	}
	return nil
}

// stop is called once.
func (s *Server) stop() {
	defer s.receivers.Wait() // they end with the handlers
	s.health.stop()
	close(s.leaving)
	drained := make(chan struct{})
	if s.web != nil {
		defer s.web.close() // when no call is left, or those that are had their time
	}
	go func() {
		defer close(drained)
		var both sync.WaitGroup
		if s.web != nil {
			both.Go(s.web.drain)
		}
		s.server.GracefulStop()
		both.Wait()
	}()
	timer := time.NewTimer(s.options.Drain)
	defer timer.Stop()
	select {
	case <-drained:
		return
	case <-timer.C:
	}
	close(s.stopping)
	timer.Reset(lastWords)
	select {
	case <-drained:
	case <-timer.C:
		if s.web != nil {
			s.web.close()
		}
		s.server.Stop()
		<-drained
	}
}
