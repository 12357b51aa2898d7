package grpcin

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (c *call) streams() bool { return c.sends || c.answers }

// limit is a timer for calls that carry no deadline of their own.
func (s *Server) limit(ctx context.Context, c *call) (timer *time.Timer, stop func()) {
	if _, limited := ctx.Deadline(); limited {
		return &time.Timer{}, func() {}
	}
	c.touch()
	timer = time.NewTimer(s.options.MaxWait)
	return timer, func() { timer.Stop() }
}

// renew lets a stream go on when its limit is reached, where a message was passed on meanwhile.
func (s *Server) renew(limit *time.Timer, c *call) bool {
	idle := time.Since(time.Unix(0, c.last.Load()))
	if !c.streams() || idle >= s.options.MaxWait {
		return false
	}
	limit.Reset(s.options.MaxWait - idle)
	return true
}

func (s *Server) limitError(c *call) error {
	if c.streams() {
		return status.Errorf(codes.DeadlineExceeded, "no message for %v in either direction; set a deadline to wait longer", s.options.MaxWait)
	}
	return status.Errorf(codes.DeadlineExceeded, "no answer within %v, which is the limit of calls without a deadline", s.options.MaxWait)
}
