package conformance_test

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
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
		{group, "rejected by Kafka", "a record that its topic does not take: status 8, which names the topic. No end of a stream is written whose message is missing", func(s *stage) {
			s.limitRecords(narrowRequests, "1000", false)
			s.call("Narrow/Unary", 1).send(hundredKB).halfClose().ends(codes.ResourceExhausted, narrowRequests)
			s.call("Narrow/ServerStream", 2).send(hundredKB).halfClose().ends(codes.ResourceExhausted, narrowRequests)
			s.limitRecords(narrowRequests, "1048588", true)
		}},
		{group, "client abort", "the caller goes after its half-close: one more null record, with `grpc:canceled`", func(s *stage) {
			c := s.call("Asked/Unary", 1).send("hi").halfClose()
			s.seen(askedRequests, 2)
			c.cancel()
			c.ends(codes.Canceled, "")
			s.seen(askedRequests, 3)
		}},
		{group, "one-way unary", "one record without `zilla:` headers and without an end; the caller gets an empty message once Kafka has it", func(s *stage) {
			s.call("OneWay/Unary", 1, "tag", "a").send("hi").halfClose().receives("").ends(codes.OK, "")
			s.seen(oneWayRequests, 1)
		}},
		{group, "client stream", "a record for each message as it comes, then the end; one message comes back", func(s *stage) {
			c := s.call("Asked/ClientStream", 1)
			for n, m := range []string{"one", "two", "three"} {
				c.send(m)
				s.seen(askedRequests, n+1)
			}
			c.halfClose()
			s.seen(askedRequests, 4)
			s.replay(askedReplies)
			c.receives("all").ends(codes.OK, "")
		}},
		{group, "one-way client stream", "a record for each message; one empty message comes back once Kafka has them all", func(s *stage) {
			s.call("OneWay/ClientStream", 1).send("one", "two", "three").halfClose().receives("").ends(codes.OK, "")
			s.seen(oneWayRequests, 3)
		}},
		{group, "client abort in a stream", "the caller goes before its half-close: the null record that ends its stream has `grpc:canceled`", func(s *stage) {
			c := s.call("Asked/ClientStream", 1).send("one")
			s.seen(askedRequests, 1)
			c.cancel()
			c.ends(codes.Canceled, "")
			s.seen(askedRequests, 2)
		}},
		{group, "server stream", "replies reach the caller while the call is open, in their order", func(s *stage) {
			c := s.call("Asked/ServerStream", 1).send("count").halfClose()
			s.seen(askedRequests, 2)
			for n := range 3 {
				s.writeNext(askedReplies, 1)
				c.receives(fmt.Sprint(n + 1))
			}
			s.writeNext(askedReplies, 1)
			c.ends(codes.OK, "").header("served-by", "hand")
		}},
		{group, "reader abort", "the caller goes after one of the replies: `grpc:canceled`", func(s *stage) {
			c := s.call("Asked/ServerStream", 1).send("count").halfClose()
			s.seen(askedRequests, 2)
			s.replay(askedReplies)
			c.receives("1")
			c.cancel()
			c.ends(codes.Canceled, "")
			s.seen(askedRequests, 3)
		}},
		{group, "bidi stream", "each reply reaches the caller before it sends the next message", func(s *stage) {
			c := s.call("Asked/BidiStream", 1)
			for n, m := range []string{"one", "two", "three"} {
				c.send(m)
				s.seen(askedRequests, n+1)
				s.writeNext(askedReplies, 1)
				c.receives(m + " too")
			}
			c.halfClose()
			s.seen(askedRequests, 4)
			s.writeNext(askedReplies, 1)
			c.ends(codes.OK, "")
		}},
		{group, "bidi abort", "the caller goes in the middle: a null record with `grpc:canceled`", func(s *stage) {
			c := s.call("Asked/BidiStream", 1).send("one")
			s.seen(askedRequests, 1)
			s.replay(askedReplies)
			c.receives("one too")
			c.cancel()
			c.ends(codes.Canceled, "")
			s.seen(askedRequests, 2)
		}},
	}
}

// limitRecords sets the largest record batch that a topic takes, to one that a record of 2 kB fits in or not.
func (s *stage) limitRecords(topic, limit string, fits bool) {
	s.t.Helper()
	// The broker learns of changes in their order, some time after they are made: what it does with the second topic tells.
	for _, name := range []string{topic, limitTopic} {
		responses, err := s.admin.AlterTopicConfigs(s.ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &limit}}, name)
		s.must(err)
		for _, r := range responses {
			s.must(r.Err)
		}
	}
	s.until("the new limit of "+topic, func() bool {
		err := s.kafka.ProduceSync(s.ctx, &kgo.Record{Topic: limitTopic, Value: make([]byte, 2000)}).FirstErr()
		if err != nil && !errors.Is(err, kerr.MessageTooLarge) {
			s.t.Fatal(err)
		}
		return (err == nil) == fits
	})
}
