package conformance_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// ours are the scenarios of what this program adds, through both sides.
func ours() []scenario {
	const group = "ours"
	return []scenario{
		{group, "duplicate key", "the second call of a key has the first one's reply, and the service sees nothing of it; with another message: status 9", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				c.SetTrailer(metadata.Pairs("spent", fmt.Sprint(c.n)))
				return echo(c)
			})
			for range 2 {
				s.call("Whole/Unary", 1).send("hi").halfClose().receives("hi").ends(codes.OK, "").trailer("spent", "1")
			}
			s.call("Whole/Unary", 1).send("other").halfClose().ends(codes.FailedPrecondition, "idempotency key was used with another request")
			s.executed(1, 1)
		}},
		{group, "concurrent calls with different metadata", "each of ten calls that are open at once has its own metadata, messages and trailers", func(s *stage) {
			const n = 10
			var all sync.WaitGroup
			all.Add(n)
			var open []*call
			for i := range n {
				s.script(i, func(c *serviceCall) error {
					all.Done()
					all.Wait() // until every call has come
					if err := c.SetHeader(metadata.MD{"tag": c.md["tag"]}); err != nil {
						return err
					}
					c.SetTrailer(metadata.MD{"tag": c.md["tag"]})
					return echo(c)
				})
				open = append(open, s.call("Whole/Unary", i, "tag", fmt.Sprint("tag ", i)).send(fmt.Sprint("message ", i)).halfClose())
			}
			for i, c := range open {
				tag := fmt.Sprint("tag ", i)
				c.receives(fmt.Sprint("message ", i)).ends(codes.OK, "").header("tag", tag).trailer("tag", tag)
				s.executed(i, 1)
			}
		}},
		{group, "custom trailers", "trailers, repeated ones too, and rich error details reach the caller, with OK and with an error", func(s *stage) {
			trailers := metadata.Pairs("spent", "1", "spent", "2", "proof-bin", "\x00\xff")
			s.script(1, func(c *serviceCall) error {
				c.SetTrailer(trailers)
				return echo(c)
			})
			s.call("Whole/Unary", 1).send("hi").halfClose().receives("hi").ends(codes.OK, "").
				trailer("spent", "1", "2").trailer("proof-bin", "\x00\xff")
			s.script(2, func(c *serviceCall) error {
				c.SetTrailer(trailers)
				rich, err := status.New(codes.ResourceExhausted, "quota").WithDetails(wrapperspb.String("by tomorrow"))
				if err != nil {
					return err
				}
				return rich.Err()
			})
			c := s.call("Whole/Unary", 2).send("hi").halfClose()
			err := c.RecvMsg(new([]byte))
			expect(s, "code", status.Code(err), codes.ResourceExhausted)
			details := status.Convert(err).Details()
			if len(details) != 1 || details[0].(*wrapperspb.StringValue).GetValue() != "by tomorrow" {
				s.t.Errorf("the details are %v", details)
			}
			c.trailer("spent", "1", "2").trailer("proof-bin", "\x00\xff")
		}},
		{group, "compressed messages", "a caller and a service that use gzip: the records are as without it", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				if err := grpc.SetSendCompressor(c.Context(), gzip.Name); err != nil {
					return err
				}
				return echo(c)
			})
			s.callWith(s.ctx, "Whole/Unary", 1, nil, grpc.UseCompressor(gzip.Name)).send(hundredKB).halfClose().receives(hundredKB).ends(codes.OK, "")
			s.executed(1, 1)
		}},
		{group, "deadline through", "each call's own deadline is on its records and at the service", func(s *stage) {
			for i := range 2 {
				least, most := time.Duration(i)*minutes, time.Duration(i+1)*minutes
				s.script(i, func(c *serviceCall) error {
					at, ok := c.Context().Deadline()
					if left := time.Until(at); !ok || left <= least || left > most {
						return status.Errorf(codes.Internal, "the deadline is in %v, not between %v and %v", left, least, most)
					}
					return echo(c)
				})
				ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), most)
				defer cancel()
				s.callWith(ctx, "Whole/Unary", i, nil).send("hi").halfClose().receives("hi").ends(codes.OK, "")
				s.executed(i, 1)
			}
		}},
	}
}
