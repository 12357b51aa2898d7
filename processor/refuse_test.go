package processor_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// without drops headers by name.
func without(headers []wire.Header, names ...string) []wire.Header {
	return slices.DeleteFunc(slices.Clone(headers), func(h wire.Header) bool { return slices.Contains(names, h.Name) })
}

func TestRequestThatCannotBecomeACallIsAnswered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	add := func(extra ...wire.Header) func([]wire.Header) []wire.Header {
		return func(headers []wire.Header) []wire.Header { return append(headers, extra...) }
	}
	tests := []struct {
		name     string
		headers  func([]wire.Header) []wire.Header
		status   codes.Code
		contains string
	}{
		{"no service", func(h []wire.Header) []wire.Header { return without(h, "zilla:service") }, codes.Internal, ""},
		{"no method", func(h []wire.Header) []wire.Header { return without(h, "zilla:method") }, codes.Internal, ""},
		{"no route", add(header("zilla:service", "other.Service")), codes.Unimplemented, "no route takes method other.Service/UnaryEcho from topic echo-requests"},
		{"no route for a stream", add(header("zilla:service", "other.Service"), header("zilla:method", "BidirectionalStreamingEcho")), codes.Unimplemented, "no route"},
		{"deadline that is none", add(header("grpc:deadline", "soon")), codes.InvalidArgument, `header "grpc:deadline"`},
		{"all faults at once", add(header("meta:x-bin", "%%%"), header("grpc:deadline", "soon")), codes.InvalidArgument, `header "grpc:deadline"`},
		{"1,000 malformed headers", func(h []wire.Header) []wire.Header {
			for i := range 1000 {
				h = append(h, header("grpc:deadline", strings.Repeat("x", 400)+strconv.Itoa(i)))
			}
			return h
		}, codes.InvalidArgument, "is not a time in Unix milliseconds"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := attempt(test.name, test.name)
			first, last := message(r, "one"), end(r)
			first.Headers, last.Headers = test.headers(first.Headers), test.headers(last.Headers)
			b.produce(first, last)
			got := b.results(1)[test.name]
			got.check(t, test.status, test.contains)
			if test.contains == "" && got.Message != "" {
				t.Errorf("the message is %q, want none", got.Message)
			}
		})
	}
	b.call(attempt("good", "good"), "good").check(t, codes.OK, "", "good")
	for id, answers := range b.answers() {
		if len(answers) != 1 {
			t.Errorf("%s was answered %d times", id, len(answers))
		}
	}
	b.wantExecuted("good")
	if letters := b.log(b.remote.Processing.DeadLetter); len(letters) != 0 {
		t.Errorf("dead letters: %v", describe(letters))
	}
}

func TestOversizedAttemptIDIsAnsweredWithoutIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	r := request("k")
	record := message(r, "one")
	record.Headers = append(record.Headers, header("grpc:call", strings.Repeat("x", 65)))
	b.produce(record)
	b.results(1)[r.CorrelationID].check(t, codes.InvalidArgument, `header "grpc:call"`)
}

func TestStrangeButValidRequestIsExecuted(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	many := foreign("many headers")
	for i := range 1000 {
		many.Metadata = append(many.Metadata, wire.Field{Name: "x", Value: strconv.Itoa(i)})
	}
	tests := []struct {
		name    string
		request wire.Request
	}{
		{"correlation id that is not UTF-8", foreign("k\xff\xfe")},
		{"1,000 metadata entries", many},
		{"no reply topic named", wire.Request{Service: service, Method: "UnaryEcho", ReplyTo: replies, CorrelationID: "nowhere"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			record := message(test.request, test.name)
			if test.request.CorrelationID == "nowhere" {
				record.Headers = without(record.Headers, "zilla:reply-to")
			}
			b.produce(record)
			b.results(1)[test.request.CorrelationID].check(t, codes.OK, "", test.name)
			b.produce(record)
			b.results(1)[test.request.CorrelationID].check(t, codes.OK, "", test.name)
		})
	}
	if got := b.service.received()[1].metadata.Get("x"); len(got) != 1000 || got[999] != "999" {
		t.Errorf("the service got %d entries", len(got))
	}
	b.committed()
	if got := len(b.service.received()); got != len(tests) {
		t.Errorf("the service was called %d times, want %d", got, len(tests))
	}
}

func TestEndlessIdempotencyKeyIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.service.answers(func(context.Context, received) ([]byte, error) { return make([]byte, 800_000), nil })
	r := foreign("c")
	r.Metadata = wire.Metadata{{Name: "idempotency-key", Value: strings.Repeat("x", 400_000)}}
	b.produce(message(r, "one"))
	b.results(1)["c"].check(t, codes.InvalidArgument, "the idempotency key has 400000 bytes, more than 16384")
	b.committed()
	b.wantExecuted()
}
