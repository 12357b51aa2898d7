package grpcin

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// exchange writes the call to its topic and passes the answer on.
func (s *Server) exchange(stream grpc.ServerStream, c *call, w *waiter) error {
	abandoned, err := s.converse(stream, c, w)
	if !abandoned && !c.sends && c.out.open() {
		c.out.send(nil) // the caller has sent its message and half-closed
	}
	if !abandoned && !c.out.open() {
		c.out.close()
		return err
	}
	// Also of a call that ended before its half-close: the processor waits for the end of its records.
	canceled := c.request
	canceled.Canceled = true
	c.out.cancel(c.route.Contract.EncodeRequest(canceled, c.route.Overrides), func(err error) {
		if err != nil {
			s.warn(c, "the processor could not be told that a call was canceled", "topic", c.route.Topic, "error", err)
		}
	})
	return err
}

// converse returns the status of the call, and whether the processor must be told that nobody waits for it.
func (s *Server) converse(stream grpc.ServerStream, c *call, w *waiter) (abandoned bool, err error) {
	ctx := stream.Context()
	received := s.receive(stream, c)
	limit, stop := s.limit(ctx, c)
	defer stop()
	ended, stopEnded := c.ends()
	defer stopEnded()
	for {
		r, ok, behind := s.options.Calls.next(w)
		switch {
		case ok && r.Value == nil:
			return false, s.end(stream, c, w, r)
		case ok:
			c.touch()
			if err := s.pass(stream, c, r); err != nil {
				return leaves(ctx), err
			}
		case behind:
			if err := s.options.Calls.catchUp(ctx, w, s.options.Readers[c.route.Cluster.Binding]); err != nil {
				return leaves(ctx), s.readError(ctx, c, err)
			}
		}
		ready := w.ready
		if ok || behind {
			ready = always // to look for the next one, unless the call must end
		}
		select {
		case <-ready:
		case err := <-received:
			received = nil
			if err != nil {
				return leaves(ctx), err
			}
			c.out.send(nil) // the caller's half-close
		case err := <-c.out.failed:
			return c.out.open(), s.sendError(c, err)
		case <-ctx.Done():
			return leaves(ctx), status.FromContextError(ctx.Err()).Err()
		case <-limit.C:
			if s.renew(limit, c) {
				continue
			}
			// What a caller has asked for in full is done all the same, and can be asked for again. Of a stream nobody
			// would read the rest.
			return c.streams(), s.limitError(c)
		case <-ended:
			return true, errTokenEnded
		case <-s.stopping:
			// As above: the processor finishes what it has in full.
			return c.out.open(), errStopping
		}
	}
}

// always is ready.
var always = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// leaves reports whether a caller that goes away must be told to the processor. A deadline that passes need not:
// it is in the records. A client that sees it pass resets the call a moment before the server's clock says so.
func leaves(ctx context.Context) bool {
	const moment = 50 * time.Millisecond
	deadline, limited := ctx.Deadline()
	return !limited || time.Until(deadline) > moment
}

func (s *Server) readError(ctx context.Context, c *call, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	s.warn(c, "replies could not be read again for a slow caller", "error", err)
	return status.Errorf(codes.Unavailable, "the caller was slow, and the rest of the replies cannot be read from Kafka: %v", err)
}
