// Package grpcout makes one call to a service: it keeps the connections, passes messages through as they are,
// and takes metadata, trailers, status and deadline both ways.
//
// It knows nothing of Kafka, and nothing of why a call is made. A [Client] tries a call once; a [Caller] makes it again
// under a [Policy], and keeps away from services that are down. A failed call is a [Result] like any other.
package grpcout

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // for services that answer compressed, and for Target.Compression
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/wire/rawcodec"
)

// Options of a client. The zero value has the defaults.
type Options struct {
	MaxMessageBytes int // largest message in either direction, default 4 MiB

	// Lookup resolves the names of services; default is the system's way.
	Lookup func(ctx context.Context, host string) ([]string, error)
	// Dial is what else is asked of each connection, such as to be told of every attempt.
	Dial []grpc.DialOption
	// Refresh is how often names are resolved again while their connections are well, default 10s.
	Refresh time.Duration
}

// Target is a service. Calls to equal targets share its connections: one to each address of its name, in turn.
type Target struct {
	Scheme    string      // http: plaintext HTTP/2; https: HTTP/2 over TLS
	Authority string      // the :authority that calls carry, default Address
	Address   string      // host:port, or unix:/path
	TLS       *tls.Config // for https. Without a ServerName the certificate must be for the authority's host

	MaxMessageBytes int    // largest message in either direction; 0: that of the client
	Compression     string // of request messages: "" or "gzip"
}

// Call is what is sent.
type Call struct {
	Method   string      // "package.Service/Method"
	Metadata metadata.MD // reserved names in it, such as grpc-timeout, are not sent; must not be changed any more
	Message  []byte      // protobuf; must not be changed any more
	Pace     *Pace       // of a Caller's attempts; nil: none
	Park     *Park       // of a Caller's calls; nil: they end when they have a result
	Moved    Moved       // of a Caller's attempts; nil: the service stays where it is
}

// Result is how a call ended. Rich error details are in Trailer, as grpc-status-details-bin.
type Result struct {
	Status   codes.Code
	Message  string // of the status
	Header   metadata.MD
	Trailer  metadata.MD
	Messages [][]byte // one where the status is OK, else none

	// Of a Caller's calls.
	Attempts  int    // that were made. 0: the service saw nothing of the call
	Exhausted bool   // the status is retryable, but no time was left for another attempt
	Idle      bool   // the last attempt was ended by [Policy.AttemptIdle]
	Address   string // of the target of the last attempt

	Parked *Progress // there is no result yet, but that of the last attempt: see [Park]
}

// Client calls services. It connects to a target at its first call, keeps one connection for each distinct
// target, and is safe for concurrent use.
type Client struct {
	maxMessageBytes int
	names           names
	dial            []grpc.DialOption
	life            context.Context // ended by Close
	end             context.CancelFunc

	mu       sync.Mutex // guards what follows
	conns    map[path]*connection
	kept     map[Target]bool // whose connections are kept when no call uses them; nil: all
	closed   bool
	inFlight sync.WaitGroup // grows under mu while not closed
}

// connection is that of a path, with how many calls use it.
type connection struct {
	*grpc.ClientConn
	calls int
}

// path is what calls share a connection by.
type path struct {
	Target
	odd bool // for metadata that grpc-go itself refuses to send
}

// maxHeaderList is the largest metadata and the largest trailers that a service may send, which it is told. It has been grpc-go's
// default, which may become a thousandth of it; a status that comes with more is lost.
const maxHeaderList = 16 << 20

var errClosed = errors.New("the client is closed")

// New makes a client; [Client.Close] ends it.
func New(o Options) *Client {
	if o.MaxMessageBytes == 0 {
		o.MaxMessageBytes = 4 << 20
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupHost
	}
	if o.Refresh == 0 {
		o.Refresh = namesRefresh
	}
	life, end := context.WithCancel(context.Background())
	return &Client{maxMessageBytes: o.MaxMessageBytes, names: names{o.Lookup, o.Refresh}, dial: o.Dial, life: life, end: end, conns: map[path]*connection{}}
}

// Unary calls a method that takes one message and answers with one, and waits for the end of the call. The
// deadline is that of ctx, which should have one; it is sent along. A service that cannot be reached is
// UNAVAILABLE, at once where it refuses connections. The message of a status that the service did not send
// itself names the target's address.
func (c *Client) Unary(ctx context.Context, t Target, call Call) Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, _ := c.unary(ctx, t, call)
	return r
}

// unary is Unary, and tells whether the service has sent anything. Its context must end soon after it: grpc-go leaves a stream open on which a
// second reply arrived, until then.
func (c *Client) unary(ctx context.Context, t Target, call Call) (r Result, answered bool) {
	ctx, odd := outgoing(ctx, call.Metadata)
	p := path{t, odd}
	conn, err := c.begin(p)
	if err != nil {
		return Result{Status: codes.Unavailable, Message: t.Address + ": " + err.Error()}, false
	}
	defer c.leave(p, conn)

	var reply []byte
	err = conn.Invoke(ctx, "/"+call.Method, &call.Message, &reply, grpc.Header(&r.Header), grpc.Trailer(&r.Trailer))
	// Whatever a service sends begins with a content-type, be it in the header or in the trailer.
	answered = len(r.Header) > 0 || len(r.Trailer) > 0
	r.Header, r.Trailer = received(r.Header), received(r.Trailer)
	if err == nil {
		r.Messages = [][]byte{reply}
		return r, answered
	}
	if errors.Is(err, io.EOF) {
		err = errRefusedTwice
	}
	if c.cut(ctx, err) {
		answered = false
	}
	return c.failed(ctx, t, r, err, answered), answered
}

// errRefusedTwice stands for the EOF that grpc-go answers for a call that one connection has not looked at, and that another
// one ended before the request was sent again.
var errRefusedTwice = status.Error(codes.Unavailable, "two connections that were going away have not taken the request")

// failed adds the status of a call that err ended to its result.
func (c *Client) failed(ctx context.Context, t Target, r Result, err error, answered bool) Result {
	s := status.Convert(err)
	r.Status, r.Message = s.Code(), s.Message()
	if r.Status > math.MaxInt32 { // grpc-go's idea of a negative one, which it could not pass on
		r.Status = codes.Unknown
	}
	if c.cut(ctx, err) {
		r.Status, r.Message = codes.Unavailable, errClosed.Error()
	}
	if !answered {
		r.Message = t.Address + ": " + r.Message
	}
	return r
}

// cut reports whether it was Close that ended a call, not its caller: it may be made again.
func (c *Client) cut(ctx context.Context, err error) bool {
	return status.Code(err) == codes.Canceled && ctx.Err() == nil && c.isClosed()
}

// enter lets Close wait for a call until inFlight.Done. It is false once the client is closed.
func (c *Client) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.inFlight.Add(1)
	return true
}

// begin gives the connection of a path. Without an error the caller must end with leave.
func (c *Client) begin(p path) (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	conn, ok := c.conns[p]
	if !ok {
		made, err := c.connect(p)
		if err != nil {
			return nil, err
		}
		conn = &connection{ClientConn: made}
		c.conns[p] = conn
	}
	conn.calls++
	c.inFlight.Add(1)
	return conn, nil
}

// leave ends what begin has begun.
func (c *Client) leave(p path, conn *connection) {
	defer c.inFlight.Done()
	c.mu.Lock()
	conn.calls--
	unused := conn.calls == 0 && c.kept != nil && !c.kept[p.Target] && !c.closed
	if unused {
		delete(c.conns, p)
	}
	c.mu.Unlock()
	if unused {
		_ = conn.Close() // nothing is on it
	}
}

// Keep closes the connections to targets that are not among these, now or when the calls end that use them. It counts for those that are
// made later, too.
func (c *Client) Keep(targets ...Target) {
	kept := make(map[Target]bool, len(targets))
	for _, t := range targets {
		kept[t] = true
	}
	var unused []*connection
	c.mu.Lock()
	c.kept = kept
	for p, conn := range c.conns {
		if !kept[p.Target] && conn.calls == 0 {
			delete(c.conns, p)
			unused = append(unused, conn)
		}
	}
	c.mu.Unlock()
	for _, conn := range unused {
		_ = conn.Close() // nothing is on it
	}
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// connect prepares a connection; grpc-go opens it when the first call needs it.
func (c *Client) connect(p path) (*grpc.ClientConn, error) {
	t := p.Target
	creds, err := security(t)
	if err != nil {
		return nil, err
	}
	authority := t.Authority
	if authority == "" {
		authority = t.Address
	}
	limit := c.maxMessageBytes
	if t.MaxMessageBytes > 0 {
		limit = t.MaxMessageBytes
	}
	calls := []grpc.CallOption{
		grpc.ForceCodecV2(rawcodec.Codec{}),
		grpc.MaxCallRecvMsgSize(limit),
		grpc.MaxCallSendMsgSize(limit),
	}
	if t.Compression != "" {
		calls = append(calls, grpc.UseCompressor(t.Compression))
	}
	options := []grpc.DialOption{
		grpc.WithResolvers(c.names),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithTransportCredentials(creds),
		grpc.WithAuthority(authority),
		grpc.WithUserAgent("kafka-grpc"),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(), // but for streams that the service says it has not looked at
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			// Calls fail fast while grpc-go waits to connect again, so the wait bounds how long a service that
			// is back seems to be away.
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// grpc-go servers end connections that ping more often than every 5 minutes. Data that a dead peer does
		// not acknowledge ends a connection after Timeout in any case.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 6 * time.Minute, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(calls...),
		grpc.WithMaxHeaderListSize(maxHeaderList),
	}
	if p.odd {
		options = append(options, grpc.WithStatsHandler(oddHandler{}))
	}
	return grpc.NewClient(dialTarget(t.Address), append(options, c.dial...)...)
}

// Close cuts the calls in flight, waits until they have returned, and closes all connections. Cut calls, and
// those made later, are UNAVAILABLE. Closing twice does nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	conns := c.conns
	c.end()
	c.conns, c.closed = nil, true
	c.mu.Unlock()
	var problems []error
	for p, conn := range conns {
		if err := conn.Close(); err != nil {
			problems = append(problems, fmt.Errorf("closing the connection to %s: %w", p.Address, err))
		}
	}
	c.inFlight.Wait()
	return errors.Join(problems...)
}
