package grpcout

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// Stream is a call whose messages flow while it is open, in both directions.
type Stream struct {
	Method   string      // "package.Service/Method"
	Metadata metadata.MD // reserved names in it, such as grpc-timeout, are not sent; must not be changed any more

	// Next gives the next request message, which must not be changed any more, and io.EOF after the last one. It waits for
	// it, until ctx ends, and must not lose one then: it is called again by another attempt. That it is called means that
	// the message before was written, at the pace at which the service reads.
	Next func(ctx context.Context) ([]byte, error)

	// Begin takes the initial metadata when it comes, which may be long before the first message; not of a service that answers
	// with its status at once. An error of it ends the call. nil: nobody waits for it.
	Begin func(header metadata.MD) error

	// Receive takes a message of the service, with the initial metadata. No other is read until it returns, so that it slows
	// the service down. An error of it ends the call.
	Receive func(header metadata.MD, message []byte) error

	// Pace is that of the attempts; nil: none. A stream has its turn while it is open. Waiting is told, if it is not nil, when one
	// begins and ends to wait for it.
	Pace    *Pace
	Waiting func(bool)
	Moved   Moved // nil: the service stays where it is
}

// replayBytes bounds the request messages of a stream that are kept for another attempt.
const replayBytes = 1 << 20

// Stream makes a call whose messages flow, and waits for its end. Another attempt is made, as by Unary, only while nothing
// was received from the service and its request has at most 1 MiB so far. The deadline is that of ctx alone. The breaker
// lets it in like other calls; the first message, or the end, tells about the target. Messages of the result are nil.
func (c *Caller) Stream(ctx context.Context, t Target, s Stream) Result {
	sent := &sent{next: s.Next}
	return c.make(ctx, t, s.Method, queue{pace: s.Pace, waiting: s.Waiting}, s.Moved, func(ctx context.Context, t Target, v *visit) (Result, bool, bool) {
		// A silent stream says nothing of its target, and must not keep other calls waiting as the one probe.
		silence := time.AfterFunc(max(c.policy.Load().Breaker.Open, time.Millisecond), func() { v.leave(unknown, Result{}) })
		defer silence.Stop()
		r, answered := c.stream(ctx, t, s, sent, func() { v.leave(worked, Result{}) })
		return r, answered, !sent.committed.Load()
	})
}

// Stream makes a call whose messages flow, once, and waits for its end. Messages of the result are nil.
func (c *Client) Stream(ctx context.Context, t Target, s Stream) Result {
	sent := &sent{next: s.Next}
	sent.committed.Store(true)
	r, _ := c.stream(ctx, t, s, sent, func() {})
	return r
}

// sent are the request messages that were taken from a stream's source so far. One attempt at a time uses it.
type sent struct {
	next      func(context.Context) ([]byte, error)
	committed atomic.Bool // to the attempt that goes on: nothing is kept any more
	messages  [][]byte
	bytes     int
	whole     bool // the source has ended
}

// send writes the request to a stream, until its end or that of ctx.
func (s *sent) send(ctx context.Context, stream grpc.ClientStream) {
	for i := range s.messages {
		if stream.SendMsg(&s.messages[i]) != nil {
			return // the receiver learns why
		}
	}
	for !s.whole {
		message, err := s.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			s.whole = true
		case err != nil:
			return
		default:
			s.keep(message)
			if stream.SendMsg(&message) != nil {
				return
			}
		}
	}
	_ = stream.CloseSend() // always nil
}

func (s *sent) keep(message []byte) {
	if s.bytes += len(message); s.bytes > replayBytes {
		s.committed.Store(true)
	}
	if s.committed.Load() {
		s.messages = nil
		return
	}
	s.messages = append(s.messages, message)
}

// stream is one attempt. begun is called at the first message of the service. answered tells whether the service has sent
// anything.
func (c *Client) stream(ctx context.Context, t Target, s Stream, sent *sent, begun func()) (r Result, answered bool) {
	ctx, odd := outgoing(ctx, s.Metadata)
	p := path{t, odd}
	conn, err := c.begin(p)
	if err != nil {
		return Result{Status: codes.Unavailable, Message: t.Address + ": " + err.Error()}, false
	}
	defer c.leave(p, conn)

	var sending sync.WaitGroup
	defer sending.Wait()
	callCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(callCtx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+s.Method)
	if err != nil {
		return c.failed(ctx, t, r, err, false), false
	}
	sending.Go(func() { sent.send(callCtx, stream) })
	if s.Begin != nil {
		// Nothing where the call ends without it; the receiver learns why.
		if header, _ := stream.Header(); len(header) > 0 {
			if err := s.Begin(received(header.Copy())); err != nil {
				r.Status, r.Message = codes.Canceled, err.Error()
				return r, true
			}
		}
	}
	for first := true; ; first = false {
		var message []byte
		if err = receive(stream, &message); err != nil {
			break
		}
		if first {
			sent.committed.Store(true)
			header, _ := stream.Header() // it is there
			r.Header = received(header.Copy())
			begun()
		}
		if err := s.Receive(r.Header, message); err != nil {
			r.Status, r.Message = codes.Canceled, err.Error()
			return r, true
		}
	}
	header, _ := stream.Header() // the stream has ended: it does not wait
	trailer := stream.Trailer()
	answered = len(header) > 0 || len(trailer) > 0
	if r.Header == nil {
		r.Header = received(header.Copy())
	}
	r.Trailer = received(trailer.Copy())
	if errors.Is(err, io.EOF) {
		return r, true
	}
	return c.failed(ctx, t, r, err, answered), answered
}

// receive receives a message. io.EOF is the end of a stream whose status is OK.
func receive(stream grpc.ClientStream, message *[]byte) error {
	err := stream.RecvMsg(message)
	if errors.Is(err, io.EOF) {
		// Also for a stream that one connection has not looked at, and that another one ended before all was sent again,
		// grpc-go answers EOF. Asked once more it tells the status.
		err = stream.RecvMsg(message)
	}
	return err
}
