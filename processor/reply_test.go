package processor_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func header(name, value string) wire.Header { return wire.Header{Name: name, Value: []byte(value)} }

func TestReplyRecordsByteByByte(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		if err := call.stream.SetHeader(metadata.Pairs("x-b-bin", "\x00\xff", "x-a", "1", "x-a", "2")); err != nil {
			return nil, err
		}
		call.stream.SetTrailer(metadata.Pairs("t-bin", "\x01", "t", "end"))
		if call.message == "bad" {
			return nil, status.Error(codes.NotFound, "100% größe")
		}
		return []byte(call.message), nil
	})
	withoutCall := request("k2")
	tests := []struct {
		name    string
		request wire.Request
		message string
		want    []wire.Record
	}{
		{"success", attempt("k1", "attempt-1"), "hi", []wire.Record{
			{Value: []byte("hi"), Headers: []wire.Header{
				header("zilla:correlation-id", request("k1").CorrelationID),
				header("meta:x-a", "1"), header("meta:x-a", "2"), header("meta:x-b-bin", "AP8"),
				header("grpc:call", "attempt-1"), header("grpc:message", "0"),
			}},
			{Headers: []wire.Header{
				header("zilla:correlation-id", request("k1").CorrelationID), header("zilla:status", "0"),
				header("trailer:t", "end"), header("trailer:t-bin", "AQ"), header("grpc:call", "attempt-1"), header("grpc:message", "1"),
			}},
		}},
		{"empty message, attempt without id", withoutCall, "", []wire.Record{
			{Value: []byte{}, Headers: []wire.Header{
				header("zilla:correlation-id", withoutCall.CorrelationID),
				header("meta:x-a", "1"), header("meta:x-a", "2"), header("meta:x-b-bin", "AP8"), header("grpc:message", "0"),
			}},
			{Headers: []wire.Header{
				header("zilla:correlation-id", withoutCall.CorrelationID), header("zilla:status", "0"),
				header("trailer:t", "end"), header("trailer:t-bin", "AQ"), header("grpc:message", "1"),
			}},
		}},
		{"error", attempt("k3", "attempt-3"), "bad", []wire.Record{
			{Headers: []wire.Header{
				header("zilla:correlation-id", request("k3").CorrelationID), header("zilla:status", "5"),
				header("zilla:message", "100%25 gr%C3%B6%C3%9Fe"),
				header("meta:x-a", "1"), header("meta:x-a", "2"), header("meta:x-b-bin", "AP8"),
				header("trailer:t", "end"), header("trailer:t-bin", "AQ"), header("grpc:call", "attempt-3"),
			}},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b.send(test.request, test.message)
			got := b.read(len(test.want))
			for i := range test.want {
				test.want[i].Topic = replies
				test.want[i].Key = []byte(test.request.CorrelationID)
				test.want[i].Partition = wire.Partition([]byte(test.request.CorrelationID), 3)
			}
			if first, last := got[0].Offset, got[len(got)-1].Offset; last != first+int64(len(got)-1) {
				t.Errorf("the records are not one behind the other: offsets %d and %d", first, last)
			}
			for i := range got {
				got[i].Offset, got[i].Timestamp = 0, test.want[i].Timestamp
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	b.committed()
	if got := len(b.log(replies)); got != 5 {
		t.Errorf("%d reply records, want 5", got)
	}
}

func TestResultThatDoesNotFit(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	tests := []struct {
		name     string
		change   func(*topology.Remote)
		limited  string // topic with a max.message.bytes of limit
		bytes    int    // of the reply message
		contains string
	}{
		{name: "row above max-result", change: func(r *topology.Remote) { r.MaxResult = 1000 }, bytes: 1100, contains: "table.max-result"},
		{name: "row above the table topic's limit", limited: "test-remote-table", bytes: limit, contains: "table.max-result"},
		{name: "message above the reply topic's limit", limited: replies, bytes: limit, contains: "does not fit topic"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			change := test.change
			if change == nil {
				change = func(*topology.Remote) {}
			}
			b := newBench(t, 1, change)
			if test.limited != "" {
				b.limit(test.limited, "100000")
			}
			b.started()
			b.service.answers(func(_ context.Context, call received) ([]byte, error) {
				if call.message == "small" {
					return []byte("small"), nil
				}
				return bytes.Repeat([]byte("x"), test.bytes), nil
			})
			first := b.call(attempt("k", "a"), "large")
			first.check(t, codes.ResourceExhausted, test.contains)
			first.same(t, b.call(attempt("k", "b"), "large"))
			b.call(attempt("next", "c"), "small").check(t, codes.OK, "", "small")
			b.committed()
			b.wantExecuted("large", "small")
		})
	}
}

// Metadata, trailers and the message of a status never cost the status, nor the messages.
func TestResultWhoseMetadataDoesNotFit(t *testing.T) {
	t.Parallel()
	large, small := strings.Repeat("é", 76_000), strings.Repeat("s", 1000)
	for name, tt := range map[string]struct {
		limited string
		change  func(*topology.Remote)
	}{
		"max-result":  {change: func(r *topology.Remote) { r.MaxResult = 40_000 }},
		"table topic": {limited: "test-remote-table"},
		"reply topic": {limited: replies},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var change []func(*topology.Remote)
			if tt.change != nil {
				change = append(change, tt.change)
			}
			b := newBench(t, 1, change...)
			if tt.limited != "" {
				b.limit(tt.limited, "100000")
			}
			b.heard = new(logtest.Lines)
			b.started()
			answer := func(stream grpc.ServerStream, message string) error {
				err := errors.Join(grpc.SetHeader(stream.Context(), metadata.Pairs("h", small, "h-bin", large)),
					grpc.SetTrailer(stream.Context(), metadata.Pairs("t", small, "u-bin", large, "t-bin", small)))
				switch {
				case err != nil:
					return err
				case message == "bad":
					return status.Error(codes.NotFound, "not here")
				case message == "long":
					return status.Error(codes.NotFound, large)
				}
				return nil
			}
			b.service.answers(func(_ context.Context, call received) ([]byte, error) {
				return []byte(call.message), answer(call.stream, call.message)
			})
			b.service.serves(func(stream grpc.ServerStream) error {
				var message []byte
				err := stream.RecvMsg(&message)
				if err == nil {
					err = answer(stream, string(message))
				}
				if err == nil {
					err = stream.SendMsg(&message)
				}
				return err
			})
			for kind, r := range map[string]func(key, call string) wire.Request{"unary": attempt, "stream": bidi} {
				if kind == "stream" && tt.limited != replies {
					continue // its first answer goes out before its row, and whole
				}
				for _, text := range []string{"good", "bad", "long"} {
					b.produce(whole(r(kind+text, "a"), text)...)
					first := b.results(1)["a"]
					b.produce(whole(r(kind+text, "b"), text)...)
					first.same(t, b.results(1)["b"])
					want := wire.Metadata{{Name: "t", Value: small}, {Name: "t-bin", Value: small}}
					switch text {
					case "good":
						first.check(t, codes.OK, "", "good")
					case "bad":
						first.check(t, codes.NotFound, "not here")
					case "long": // of the message alone there is too much
						first.check(t, codes.NotFound, "ééé")
						if n := len(wire.EncodeMessage(first.Message)); n < 20_000 || !strings.HasSuffix(first.Message, "...") {
							t.Errorf("%s: %d bytes of the message are left", kind, n)
						}
						continue
					}
					if d := cmp.Diff(want, first.Trailers); d != "" {
						t.Errorf("%s %s: trailers (-want +got):\n%s", kind, text, d)
					}
					if d := cmp.Diff(wire.Metadata{{Name: "h", Value: small}}, first.Metadata); d != "" {
						t.Errorf("%s %s: metadata (-want +got):\n%s", kind, text, d)
					}
				}
			}
			b.committed()
			if got := len(b.service.received()); got > 6 {
				t.Errorf("the service got %d calls, not one for each key", got)
			}
			if n := b.heard.(*logtest.Lines).Count("a result is cut"); n == 0 {
				t.Error("the log does not tell")
			}
		})
	}
}

// limit sets max.message.bytes of a topic before the processor runs, and creates the table where it is that.
func (b *testbench) limit(topic, bytes string) {
	b.t.Helper()
	if topic == b.remote.Table {
		b.createTable()
	}
	b.alter(topic, bytes)
}

// alter sets max.message.bytes of a topic.
func (b *testbench) alter(topic, bytes string) {
	b.t.Helper()
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bytes}}
	done, err := b.admin.AlterTopicConfigs(context.Background(), set, topic)
	if err == nil {
		err = done[0].Err
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// createTable makes the table topic before the processor does.
func (b *testbench) createTable() {
	b.t.Helper()
	if err := b.kafka.Cluster().CreateTopic(b.remote.Table, b.partitions, map[string]string{"cleanup.policy": "compact"}); err != nil {
		b.t.Fatal(err)
	}
}
