package processor_test

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

const ended = "the processor ended"

// twoRoutes adds a second request topic with a reply topic of its own.
func twoRoutes(r *topology.Remote) {
	other := r.Routes[0]
	other.Topic, other.ReplyTo = "other-requests", "other-replies"
	r.Routes = append(slices.Clone(r.Routes), other)
}

func TestPoisonHarmsNoOtherRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, twoRoutes, func(r *topology.Remote) {
		r.Processing.StreamIdle = 10 * time.Second // for as long the offsets of refused streams without an end are kept
	})
	for topic, partitions := range map[string]int32{"other-requests": 1, "other-replies": 3} {
		if err := b.kafka.Cluster().CreateTopic(topic, partitions, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.limit(requests, strconv.Itoa(16<<20)) // the topics that are written keep the default limit
	for _, topic := range []string{b.remote.Loop, b.remote.Processing.DeadLetter} {
		if err := b.kafka.Cluster().CreateTopic(topic, b.partitions, nil); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(16<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	poison := *b // writes records of any size
	poison.client = client
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		switch call.message {
		case "large reply":
			return bytes.Repeat([]byte("x"), 1<<20), nil
		case "large reply metadata": // which base64 makes larger than the row's
			return []byte(call.message), call.stream.SetHeader(metadata.Pairs("x-bin", strings.Repeat("x", 800_000)))
		}
		return []byte(call.message), nil
	})

	const year = 365 * 24 * time.Hour
	huge := strings.Repeat("h", 10<<20)
	with := func(extra ...wire.Header) func(*wire.Record) {
		return func(r *wire.Record) { r.Headers = append(r.Headers, extra...) }
	}
	replaced := func(name, value string) func(*wire.Record) {
		return func(r *wire.Record) { r.Headers = append(without(r.Headers, name), header(name, value)) }
	}
	many := func(name string, n int) (headers []wire.Header) {
		for k := range n {
			headers = append(headers, header(name, strconv.Itoa(k)))
		}
		return headers
	}
	at := func(shift time.Duration, extra ...wire.Header) func(*wire.Record) {
		return func(r *wire.Record) {
			r.Timestamp = time.Now().Add(shift)
			r.Headers = append(r.Headers, extra...)
		}
	}
	inAMinute := strconv.FormatInt(time.Now().Add(10*time.Minute).UnixMilli(), 10)
	anHourAgo := strconv.FormatInt(time.Now().Add(-time.Hour).UnixMilli(), 10)

	tests := []struct {
		name   string
		change func(*wire.Record)
		value  string // default the name
		end    bool   // followed by its half-close
		letter string // the reason, when it becomes a dead letter
		status codes.Code
		says   string
	}{
		{name: "null key", change: func(r *wire.Record) { r.Key = nil }},
		{name: "empty key", change: func(r *wire.Record) { r.Key = []byte{} }},
		{name: "key that is not UTF-8", change: func(r *wire.Record) { r.Key = []byte("\xff\xfe\x00") }},
		{name: "zero-length value", change: func(r *wire.Record) { r.Value = []byte{} }},

		{name: "10 MB header of nobody", change: with(header("x", huge))},
		{name: "10 MB header, to be re-keyed", change: func(r *wire.Record) {
			r.Key = nil
			r.Headers = append(r.Headers, header("x", huge))
		}, status: codes.ResourceExhausted, says: "cannot be re-keyed"},
		{name: "10 MB header without a correlation id", change: func(r *wire.Record) {
			r.Headers = append(without(r.Headers, "zilla:correlation-id"), header("x", huge))
		}, letter: "see its own topic"},
		{name: "10 MB correlation id", change: replaced("zilla:correlation-id", huge), letter: "more than 16384"},
		{name: "10 MB reply topic", change: replaced("zilla:reply-to", huge), letter: "is not one that a route"},
		{name: "10 MB method", change: replaced("zilla:method", huge), letter: "more than 16384"},
		{name: "10 MB attempt id", change: with(header("grpc:call", huge)), status: codes.InvalidArgument, says: `header "grpc:call"`},
		{name: "10 MB deadline", change: with(header("grpc:deadline", huge)), status: codes.InvalidArgument, says: `header "grpc:deadline"`},
		{name: "10 MB idempotency key", change: with(header("meta:idempotency-key", huge)), status: codes.InvalidArgument, says: "the idempotency key has"},
		{name: "10 MB metadata name that is none", change: with(header("meta: "+huge, "1"))},
		{name: "10 MB metadata", change: with(header("meta:x", huge))},
		{name: "10 MB value", value: huge, status: codes.ResourceExhausted},
		{name: "value near the default limit", value: strings.Repeat("v", 1_000_000), status: codes.ResourceExhausted, says: "table.max-result"},
		{name: "1,000 headers of nobody", change: with(many("x", 1000)...)},
		{name: "1,000 metadata entries, to be re-keyed", change: func(r *wire.Record) {
			r.Key = nil
			r.Headers = append(r.Headers, many("meta:x", 1000)...)
		}},
		{name: "1,000 headers without a correlation id", change: func(r *wire.Record) {
			r.Headers = append(without(r.Headers, "zilla:correlation-id"), many("x", 1000)...)
		}, letter: "no zilla:correlation-id header"},

		{name: "header names that are not UTF-8", change: with(header("\xff\xfe", "1"), header("", ""))},
		{name: "the same without a correlation id", change: func(r *wire.Record) {
			r.Headers = append(without(r.Headers, "zilla:correlation-id"), header("\xff\xfe", "1"), header("", ""))
		}, letter: "no zilla:correlation-id header"},
		{name: "metadata name that is not UTF-8", change: with(header("meta:\xff\xfe", "1"))},
		{name: "metadata that is not UTF-8", change: with(header("meta:x", "\xff\xfe"))},
		{name: "binary metadata that is not UTF-8", change: with(header("meta:x-bin", "\xff\xfe"))},
		{name: "attempt id that is not UTF-8", change: with(header("grpc:call", "\xff\xfe")), status: codes.InvalidArgument, says: `header "grpc:call"`},
		{name: "correlation id that is not UTF-8", change: replaced("zilla:correlation-id", "c\xff\xfe")},
		{name: "service that is not UTF-8", change: replaced("zilla:service", "s\xff\xfe"), status: codes.Unimplemented, says: "no route takes method"},
		{name: "method that is not UTF-8", change: replaced("zilla:method", "m\xff\xfe"), end: true},
		{name: "method with a line break", change: replaced("zilla:method", "m\r\nx: 1"), end: true, status: codes.Internal},
		{name: "reply topic that is not UTF-8", change: replaced("zilla:reply-to", "\xff\xfe"), letter: `"\xff\xfe" is not one that a route`},

		{name: "unknown method", change: replaced("zilla:method", "Nothing"), end: true},
		{name: "unknown service", change: replaced("zilla:service", "no.Service"), status: codes.Unimplemented, says: "no route takes method"},
		{name: "reply topic that is not configured", change: replaced("zilla:reply-to", "nowhere"), letter: `reply topic "nowhere" is not one`},
		{name: "reply topic of another route", change: replaced("zilla:reply-to", "other-replies"), letter: `reply topic "other-replies" is not one`},
		{name: "reply metadata larger than its topic takes", value: "large reply metadata"},
		{name: "row larger than max-result", value: "large reply", status: codes.ResourceExhausted, says: "table.max-result"},

		{name: "a year ago", change: at(-year)},
		{name: "a year ago, with a timeout", change: at(-year, header("meta:grpc-timeout", "5S")), status: codes.DeadlineExceeded},
		{name: "a year ago, with a deadline to come", change: at(-year, header("grpc:deadline", inAMinute))},
		{name: "a year ago, with a deadline that passed", change: at(-year, header("grpc:deadline", anHourAgo)), status: codes.DeadlineExceeded},
		{name: "in a year", change: at(year)},
		{name: "in a year, with a timeout", change: at(year, header("meta:grpc-timeout", "5S"))},
		{name: "in a year, with a deadline to come", change: at(year, header("grpc:deadline", inAMinute))},
		{name: "in a year, with a deadline that passed", change: at(year, header("grpc:deadline", anHourAgo)), status: codes.DeadlineExceeded},
	}
	for n, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			value := test.value
			if value == "" {
				value = test.name
			}
			record := message(foreign("poison "+strconv.Itoa(n)), value)
			if test.change != nil {
				test.change(&record)
			}
			records := []wire.Record{record}
			if test.end {
				last := record
				last.Value = nil
				records = append(records, last)
			}
			poison.produceTo(requests, 0, records...)
			if test.letter != "" {
				if _, reason := b.letter(); !strings.Contains(reason, test.letter) {
					t.Errorf("the reason is %.1000q, want %q", reason, test.letter)
				}
			} else {
				for _, got := range b.results(1) {
					if got.Status != test.status || !strings.Contains(got.Message, test.says) {
						t.Errorf("got %v %.1000q, want %v %q", got.Status, got.Message, test.status, test.says)
					}
					if got.Status == codes.OK && !slices.Equal(got.messages, []string{string(record.Value)}) {
						t.Errorf("got %.1000q", got.messages)
					}
				}
			}
			good := "good " + strconv.Itoa(n)
			b.call(attempt(good, good), good).check(t, codes.OK, "", good)
			if s := i.State(); !s.Ready {
				t.Errorf("not ready: %s", s.Reason)
			}
		})
	}
	b.committed()
	if n := log.Count(ended); n != 0 {
		t.Errorf("the processor was restarted %d times", n)
	}
}
