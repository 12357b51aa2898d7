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

// hundredKB is larger than the frames and windows of HTTP/2.
var hundredKB = strings.Repeat("x", 100_000)

// minutes are longer than any time-out of the configuration.
const minutes = 10 * time.Minute
