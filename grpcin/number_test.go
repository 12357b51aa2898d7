package grpcin_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/wire"
)

// numbered are the records of a reply: a message of each letter, with its place in the alphabet as its number, and the end for a
// dot, which says how many messages there are when a digit follows. Without numbers the letters are capital ones.
func numbered(reply wire.Reply, text string) []wire.Record {
	var records []wire.Record
	for i, c := range text {
		reply.Number = 0
		switch {
		case c == '.':
			if rest := text[i+1:]; rest != "" && rest[0] >= '0' && rest[0] <= '9' {
				reply.Number = wire.Nth(int(rest[0] - '0'))
			}
			records = append(records, end(reply))
		case c >= 'a' && c <= 'z':
			reply.Number = wire.Nth(int(c - 'a'))
			records = append(records, message(reply, string(c)))
		case c >= 'A' && c <= 'Z':
			records = append(records, message(reply, strings.ToLower(string(c))))
		}
	}
	return records
}

// What a crash cut, or Kafka refused, is written again from its beginning: a caller gets each message once.
func TestReplyInPieces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, method, records, want string }{
		{"unary", unary, "aa.1", "a"},
		{"unary, thrice", unary, "aaa.1", "a"},
		{"unary, of an earlier version and of this one", unary, "Aa.1", "a"},
		{"unary, of this version and of an earlier one", unary, "aA.", "a"},
		{"unary, without its message at first", unary, ".1a.1", "a"},
		{"unary, in two partitions", unary, ".1a", "a"},
		{"client stream", clientStream, "aa.1", "a"},
		{"server stream, cut behind the last message", serverStream, "abcabc.3", "abc"},
		{"server stream, cut in its middle", serverStream, "ababc.3", "abc"},
		{"server stream, cut twice", serverStream, "aababc.3", "abc"},
		{"server stream, executed, only the end again", serverStream, "abc.3.3", "abc"},
		{"server stream, the whole reply again", serverStream, "abc.3abc.3", "abc"},
		{"server stream, without one of its messages at first", serverStream, "ac.3abc.3", "abc"},
		{"server stream, without the first one at first", serverStream, "bc.3abc.3", "abc"},
		{"server stream, without the last one at first", serverStream, "ab.3abc.3", "abc"},
		{"server stream, without any of them at first", serverStream, ".3abc.3", "abc"},
		{"server stream, in two partitions", serverStream, "a.3bc", "abc"},
		{"server stream, without one, and cut then", serverStream, "ac.3aabc.3", "abc"},
		{"server stream, an end that says nothing of them", serverStream, "ab.", "ab"},
		{"server stream without a message", serverStream, ".0.0", ""},
		{"server stream of another program", serverStream, "ABAB.", "abab"},
		{"method that no catalog knows", unknown, "ababc.3", "abc"},
	} {
		for memory, l := range map[string]grpcin.Limits{"live": {}, "read again": {Replies: 1}} {
			t.Run(tt.name+", "+memory, func(t *testing.T) {
				t.Parallel()
				f := start(t, limits(l))
				f.kafka.on = func(r wire.Record) {
					if r.Value == nil {
						request := request(t, r)
						f.kafka.reply(f.calls, numbered(wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}, tt.records)...)
					}
				}
				c := f.stream(withPatience(t), t, tt.method)
				c.send("x")
				c.half()
				got, err := c.rest()
				if strings.Join(got, "") != tt.want || err != nil {
					t.Errorf("messages %q, %v, want %q and OK", got, err, tt.want)
				}
				eventually(t, "nothing is held, and no call waits", func() bool { return f.calls.Held() == 0 && f.calls.Waiting() == 0 })
			})
		}
	}
}

// A caller is told nothing of a reply that lacks a message, and waits no longer than for one that does not come.
func TestReplyThatStaysInPieces(t *testing.T) {
	t.Parallel()
	for method, records := range map[string]string{unary: ".1", serverStream: "ac.3"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			f := start(t, func(o *grpcin.Options, _ *front) { o.MaxWait = 50 * time.Millisecond })
			f.kafka.on = func(r wire.Record) {
				if request := request(t, r); r.Value == nil && !request.Canceled {
					f.kafka.reply(f.calls, numbered(wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}, records)...)
				}
			}
			c := f.stream(t.Context(), t, method) // without a deadline, MaxWait is the limit
			c.send("x")
			c.half()
			if got, err := c.rest(); status.Code(err) != codes.DeadlineExceeded || len(got) > 1 {
				t.Errorf("messages %q, %v, want DEADLINE_EXCEEDED", got, err)
			}
		})
	}
}

// Each record of a call says its number, but for those that nobody answers.
func TestRequestRecordsAreNumbered(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.on = pingpong(t, f)
	c := f.stream(withPatience(t), t, bidi)
	c.send("x", "", "y")
	c.half()
	c.wants(codes.OK, "x", "", "y")
	for i, r := range f.kafka.written() {
		if n, ok := request(t, r).Number.Get(); !ok || n != i {
			t.Errorf("record %d has the number %d, %t", i, n, ok)
		}
	}
}
