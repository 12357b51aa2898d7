package conformance_test

import (
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	writtenRequests = "written-requests"
	writtenReplies  = "written-replies"
)

// kafkaGRPC are the scenarios of the service's side: requests are written by hand, as Zilla writes them, without headers of ours.
func kafkaGRPC() []scenario {
	const group = "kafka-grpc"
	return []scenario{
		{group, "unary", "a message and its end are one call; its reply is a message and OK", func(s *stage) {
			s.script(1, echo)
			s.replay(writtenRequests)
			s.seen(writtenReplies, 2)
			s.executed(1, 1)
		}},
		{group, "unary, 100 kB", "100 kB arrive and come back as they were", func(s *stage) {
			s.script(1, echo)
			s.replay(writtenRequests)
			s.seen(writtenReplies, 2)
			s.executed(1, 1)
		}},
		{group, "client stream", "three messages reach the service in their order; one comes back", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				all, err := c.receiveAll()
				if err != nil {
					return err
				}
				return c.send(strings.Join(all, " "))
			})
			s.replay(writtenRequests)
			s.seen(writtenReplies, 2)
			s.executed(1, 1)
		}},
		{group, "server stream", "one message has three replies, in their order", func(s *stage) {
			s.script(1, stream("one", "two", "three"))
			s.replay(writtenRequests)
			s.seen(writtenReplies, 4)
			s.executed(1, 1)
		}},
		{group, "bidi stream", "each message has its reply before the next one is written", func(s *stage) {
			s.script(1, echo)
			for n := range 3 {
				s.writeNext(writtenRequests, 1)
				s.seen(writtenReplies, n+1)
			}
			s.writeNext(writtenRequests, 1)
			s.seen(writtenReplies, 4)
			s.executed(1, 1)
		}},
		{group, "client abort after write", "a service that aborts a stream which it has read from: status 10 and its message, once, also when the end is written later", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				if _, err := c.receive(); err != nil {
					return err
				}
				return status.Error(codes.Aborted, "not any more")
			})
			s.writeNext(writtenRequests, 1)
			s.seen(writtenReplies, 1)
			s.writeNext(writtenRequests, 1)
			s.executed(1, 1)
		}},
		{group, "missing service and method headers", "status 13 without a message, and no call", func(s *stage) {
			s.replay(writtenRequests)
			s.seen(writtenReplies, 1)
			s.executed(1, 0)
		}},
		{group, "retry while unavailable", "the third attempt works; the reply is that one's alone", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				if c.n < 3 {
					return status.Error(codes.Unavailable, "not yet")
				}
				return echo(c)
			})
			s.replay(writtenRequests)
			s.seen(writtenReplies, 2)
			s.executed(1, 3)
		}},
	}
}

// stream answers the first message with several.
func stream(replies ...string) handler {
	return func(c *serviceCall) error {
		if _, err := c.receive(); err != nil {
			return err
		}
		for _, r := range replies {
			if err := c.send(r); err != nil {
				return err
			}
		}
		return nil
	}
}

// hang never answers. It returns when the call is given up.
func hang(s *stage) handler {
	return func(c *serviceCall) error {
		if _, err := c.receive(); err != nil {
			return err
		}
		return c.untilCanceled(s.ctx)
	}
}

// hundredKB is larger than the frames and windows of HTTP/2.
var hundredKB = strings.Repeat("x", 100_000)

// minutes are longer than any time-out of the configuration.
const minutes = 10 * time.Minute
