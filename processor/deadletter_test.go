package processor_test

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

func TestRecordThatCannotBeAnsweredIsKept(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	const elsewhere = "elsewhere"
	if err := b.kafka.Cluster().CreateTopic(elsewhere, 1, nil); err != nil {
		t.Fatal(err)
	}
	good := end(request("k")).Headers
	noID := append(without(good, "zilla:correlation-id"), header("x", "1"), header("x", ""), header("x", "\xff"))
	tests := []struct {
		name   string
		topic  string // default the request topic
		record wire.Record
		reason string
		class  string
	}{
		{name: "no headers", record: wire.Record{Key: []byte("a"), Value: []byte("v")}, reason: "no zilla:correlation-id header", class: "no_correlation_id"},
		{name: "no correlation id", record: wire.Record{Key: []byte("a"), Value: []byte("v"), Headers: noID}, reason: "no zilla:correlation-id header", class: "no_correlation_id"},
		{name: "null key", record: wire.Record{Value: []byte("v"), Headers: noID}, reason: "no zilla:correlation-id header", class: "no_correlation_id"},
		{name: "empty key", record: wire.Record{Key: []byte{}, Value: []byte("v"), Headers: noID}, reason: "no zilla:correlation-id header", class: "no_correlation_id"},
		{name: "null value", record: wire.Record{Key: []byte("a"), Headers: noID}, reason: "no zilla:correlation-id header", class: "no_correlation_id"},
		{name: "empty value", record: wire.Record{Key: []byte("a"), Value: []byte{}, Headers: noID}, reason: "no zilla:correlation-id header", class: "no_correlation_id"},
		{name: "reply topic of nobody", record: wire.Record{Key: []byte("a"), Value: []byte("v"),
			Headers: append(without(good, "zilla:reply-to"), header("zilla:reply-to", elsewhere))},
			reason: `reply topic "elsewhere" is not one that a route of topic echo-requests names`, class: "unknown_reply_topic"},
		{name: "the table as reply topic", record: wire.Record{Key: []byte("a"), Value: []byte("v"),
			Headers: append(without(good, "zilla:reply-to"), header("zilla:reply-to", "test-remote-table"))},
			reason: `reply topic "test-remote-table" is not one`, class: "unknown_reply_topic"},
		{name: "endless reply topic", record: wire.Record{Key: []byte("a"), Value: []byte("v"),
			Headers: append(without(good, "zilla:reply-to"), header("zilla:reply-to", strings.Repeat("x", 600_000)))},
			reason: `is not one that a route`, class: "unknown_reply_topic"},
		{name: "identity too large", record: message(foreign(strings.Repeat("x", 17<<10)), "v"), reason: "more than 16384", class: "identity_too_large"},
		{name: "method too large", record: message(wire.Request{
			Service: service, Method: strings.Repeat("m", 17<<10), ReplyTo: replies, CorrelationID: "c"}, "v"), reason: "more than 16384", class: "identity_too_large"},
		{name: "forged record on the loop topic", topic: b.remote.Loop, record: message(request("k"), "v"),
			reason: "no readable kafkagrpc.source header at the end", class: "unreadable"},
		{name: "forged source", topic: b.remote.Loop, record: wire.Record{Key: []byte("k"), Value: []byte("v"),
			Headers: append(message(request("k"), "").Headers, header("kafkagrpc.source", "0/x/0/echo-requests"))},
			reason: "no readable kafkagrpc.source header at the end", class: "unreadable"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			topic := test.topic
			if topic == "" {
				topic = requests
			}
			at := b.produceTo(topic, 0, test.record)[0]
			letter := b.read(1)[0]
			if letter.Topic != b.remote.Processing.DeadLetter {
				t.Fatalf("not a dead letter: %v", describe([]wire.Record{letter}))
			}
			if d := cmp.Diff(test.record.Key, letter.Key); d != "" {
				t.Errorf("key: %s", d)
			}
			if d := cmp.Diff(test.record.Value, letter.Value); d != "" {
				t.Errorf("value: %s", d)
			}
			own := len(letter.Headers) - 6
			if own < 0 {
				t.Fatalf("headers: %q", letter.Headers)
			}
			want := []wire.Header{
				header("kafkagrpc.error.topic", topic), header("kafkagrpc.error.partition", "0"),
				header("kafkagrpc.error.offset", strconv.FormatInt(at.Offset, 10)),
				header("kafkagrpc.error.timestamp", strconv.FormatInt(at.Timestamp.UnixMilli(), 10)),
				header("kafkagrpc.error.class", test.class),
			}
			if !slices.EqualFunc(test.record.Headers, letter.Headers[:own], sameHeader) {
				t.Errorf("headers: %.1000q", letter.Headers)
			}
			reason := letter.Headers[own]
			if reason.Name != "kafkagrpc.error.reason" || !strings.Contains(string(reason.Value), test.reason) {
				t.Errorf("the reason is %s %q, want %q", reason.Name, reason.Value, test.reason)
			}
			if d := cmp.Diff(want, letter.Headers[own+1:]); d != "" {
				t.Errorf("source: %s", d)
			}
		})
	}
	b.call(attempt("good", "good"), "good").check(t, codes.OK, "", "good")
	b.committed()
	b.wantExecuted("good")
	if got := len(b.log(elsewhere)) + len(b.log(b.remote.Table)); got != 1 {
		t.Errorf("%d records on the table and the other topic, want the row of the good request", got)
	}
	if got := len(b.log(replies)); got != 2 {
		t.Errorf("%d reply records, want those of the good request", got)
	}
}

// sameHeader compares large values much faster than cmp does.
func sameHeader(a, b wire.Header) bool {
	return a.Name == b.Name && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
}

func TestOfRecordTooLargeToKeepThePositionIsKept(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.produce(wire.Record{Key: []byte("a"), Value: []byte(strings.Repeat("x", 1_048_300))})
	b.committed()
	letters := b.log(b.remote.Processing.DeadLetter)
	if len(letters) != 1 || letters[0].Value != nil || len(letters[0].Headers) != 6 ||
		!strings.Contains(string(letters[0].Headers[0].Value), "see its own topic") || string(letters[0].Headers[3].Value) != "0" {
		t.Errorf("dead letters: %v", describe(letters))
	}
}
