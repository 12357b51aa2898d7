package conformance_test

import (
	"google.golang.org/grpc/codes"
)

const (
	askedRequests  = "asked-requests"
	askedReplies   = "asked-replies"
	oneWayRequests = "one-way-requests"
	narrowRequests = "narrow-requests"
)

// grpcKafka are the scenarios of the caller's side: replies are written by hand, as Zilla writes them, without headers of ours.
func grpcKafka() []scenario {
	const group = "grpc-kafka"
	return []scenario{
		{group, "unary", "a call is a message and its end; the reply's message and metadata reach the caller", func(s *stage) {
			c := s.call("Asked/Unary", 1, "tag", "a", "tag", "b").send("hi").halfClose()
			s.seen(askedRequests, 2)
			s.replay(askedReplies)
			c.receives("hello").ends(codes.OK, "").header("served-by", "hand")
		}},
		{group, "unary, 100 kB", "100 kB are one record, and reach the caller as they were", func(s *stage) {
			c := s.call("Asked/Unary", 1).send(hundredKB).halfClose()
			s.seen(askedRequests, 2)
			s.replay(askedReplies)
			c.receives(hundredKB).ends(codes.OK, "")
		}},
		{group, "error", "status 9 and its decoded message reach the caller", func(s *stage) {
			c := s.call("Asked/Unary", 1).send("hi").halfClose()
			s.seen(askedRequests, 2)
			s.replay(askedReplies)
			c.ends(codes.FailedPrecondition, "50% of it\nis missing")
		}},
	}
}
