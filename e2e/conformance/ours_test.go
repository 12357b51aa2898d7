package conformance_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	grownReplies = "grown-replies"
	west         = "conformance-west_kafka_grpc_remote_server"
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
		{group, "crash and restart", "after SIGKILL: a stored reply is given again; a call that was in flight is made again; a stream that had begun to reply is UNAVAILABLE, and can be asked for again", func(s *stage) {
			s.script(1, echo)
			s.script(2, func(c *serviceCall) error {
				if c.n == 1 {
					return hang(s)(c)
				}
				return echo(c)
			})
			s.script(3, func(c *serviceCall) error {
				if c.n == 1 {
					if err := c.send("one"); err != nil {
						return err
					}
					return hang(s)(c)
				}
				return stream("one", "two")(c)
			})
			s.call("Whole/Unary", 1).send("stored").halfClose().receives("stored").ends(codes.OK, "")
			s.committed(wholeRequests)
			inFlight := s.call("Whole/Unary", 2).send("in flight").halfClose()
			s.begun(2, 1)
			begun := s.call("Whole/ServerStream", 3).send("begun").halfClose().receives("one")

			s.must(s.instance.Kill())
			inFlight.ends(codes.Unavailable, "")
			begun.ends(codes.Unavailable, "")
			s.must(s.instance.Start())
			s.must(s.instance.WaitReady())

			s.call("Whole/Unary", 1).send("stored").halfClose().receives("stored").ends(codes.OK, "")
			s.call("Whole/Unary", 2).send("in flight").halfClose().receives("in flight").ends(codes.OK, "")
			s.call("Whole/ServerStream", 3).send("begun").halfClose().receives("one", "two").ends(codes.OK, "")
			s.executed(1, 1)
			s.executed(2, 2)
			s.executed(3, 2)
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
		{group, "interleaved null records", "two attempts of one key whose messages and ends alternate in one partition: one execution, and each has the whole reply", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				all, err := c.receiveAll()
				if err != nil {
					return err
				}
				return c.send(fmt.Sprint(all))
			})
			a := s.call("Whole/ClientStream", 1).send("one")
			s.seen(wholeRequests, 1)
			b := s.call("Whole/ClientStream", 1).send("one")
			s.seen(wholeRequests, 2)
			a.send("two")
			s.seen(wholeRequests, 3)
			b.send("two")
			s.seen(wholeRequests, 4)
			b.halfClose()
			s.seen(wholeRequests, 5)
			a.halfClose()
			for _, c := range []*call{a, b} {
				c.receives("[one two]").ends(codes.OK, "")
			}
			s.executed(1, 1)
		}},
		{group, "empty request", "a stream without a message is its end alone; the service gets it and answers", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				all, err := c.receiveAll()
				if err != nil {
					return err
				}
				return c.send(fmt.Sprint(len(all), " messages"))
			})
			s.call("Whole/ClientStream", 1).halfClose().receives("0 messages").ends(codes.OK, "")
			s.executed(1, 1)
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
		{group, "Trailers-Only OK", "a service that ends a stream with nothing but its status: OK without a message", func(s *stage) {
			s.raw.script(s.key(1), func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Grpc-Status", "0")
			})
			s.call("Raw/ServerStream", 1).send("hi").halfClose().ends(codes.OK, "")
		}},
		{group, "cancel after half-close", "a caller that goes while the service works: its call is canceled there, status 1 on the reply topic", func(s *stage) {
			s.script(1, hang(s))
			c := s.call("Whole/Unary", 1).send("hi").halfClose()
			s.begun(1, 1)
			c.cancel()
			c.ends(codes.Canceled, "")
			s.seen(wholeReplies, 1)
			s.executed(1, 1)
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
		{group, "re-partitioned reply topic", "partitions are added to reply topics while a stream is open: it goes on in its order, and replies in new partitions reach their callers", func(s *stage) {
			s.script(1, echo)
			open := s.call("Grown/BidiStream", 1).send("one").receives("one")
			const grown = 5
			responses, err := s.admin.UpdatePartitions(s.ctx, grown, grownReplies, askedReplies)
			s.must(err)
			s.must(responses.Error())
			asked := s.call("Asked/Unary", 2).send("hi").halfClose()
			s.seen(askedRequests, 2)
			// Where nothing was when the program started.
			s.untilPartitions(askedReplies, grown)
			s.writeTo(grown-1, s.written(askedReplies)...)
			asked.receives("hello").ends(codes.OK, "")
			open.send("two").receives("two").halfClose().ends(codes.OK, "")
			for i := 3; i < 10; i++ {
				s.script(i, echo)
				s.call("Grown/Unary", i).send("hi").halfClose().receives("hi").ends(codes.OK, "")
			}
			s.executed(1, 1)
		}},
	}
}

// committed waits until everything on a topic is committed.
func (s *stage) committed(topic string) {
	s.t.Helper()
	s.until("everything on "+topic+" committed", func() bool {
		ends, err := s.admin.ListEndOffsets(s.ctx, topic)
		s.must(err)
		offsets, err := s.admin.FetchOffsets(s.ctx, west)
		s.must(err)
		done := true
		ends.Each(func(end kadm.ListedOffset) {
			o, ok := offsets.Lookup(topic, end.Partition)
			done = done && (end.Offset == 0 || ok && o.At >= end.Offset)
		})
		return done
	})
}

// untilPartitions waits until the broker shows a topic's new partitions.
func (s *stage) untilPartitions(topic string, n int) {
	s.t.Helper()
	s.until("the partitions of "+topic, func() bool {
		details, err := s.admin.ListTopics(s.ctx, topic)
		s.must(err)
		return len(details[topic].Partitions) == n
	})
}
