package wire_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

func reply() wire.Reply {
	return wire.Reply{
		CorrelationID: "k1-0123", Call: "attempt-1",
		Trace:    wire.Trace{Parent: "00-1-2-01", State: "a=b", Baggage: "c=d"},
		Metadata: wire.Metadata{{"x", "2"}, {"a-bin", "\x00\xff"}, {"x", "1"}},
		Status:   codes.NotFound, Message: "100% größer",
		Trailers: wire.Metadata{{"t", "1"}, {"t", "2"}, {"grpc-status-details-bin", "\x08\x05"}},
	}
}

func TestEncodeReply(t *testing.T) {
	t.Parallel()
	c := wire.DefaultContract()
	tests := []struct {
		name      string
		got, want []wire.Header
	}{
		{
			"message", c.EncodeReplyMessage(reply()),
			pairs("zilla:correlation-id", "k1-0123", "meta:x", "2", "meta:a-bin", "AP8", "meta:x", "1",
				"grpc:call", "attempt-1", "traceparent", "00-1-2-01", "tracestate", "a=b", "baggage", "c=d"),
		},
		{
			"end", c.EncodeReplyEnd(reply()),
			pairs("zilla:correlation-id", "k1-0123", "zilla:status", "5", "zilla:message", "100%25 gr%C3%B6%C3%9Fer",
				"meta:x", "2", "meta:a-bin", "AP8", "meta:x", "1",
				"trailer:t", "1", "trailer:t", "2", "trailer:grpc-status-details-bin", "CAU",
				"grpc:call", "attempt-1", "traceparent", "00-1-2-01", "tracestate", "a=b", "baggage", "c=d"),
		},
		{"plain message", c.EncodeReplyMessage(wire.Reply{CorrelationID: "c"}), pairs("zilla:correlation-id", "c")},
		{"plain end", c.EncodeReplyEnd(wire.Reply{CorrelationID: "c"}), pairs("zilla:correlation-id", "c", "zilla:status", "0")},
		{
			"reserved trailers", c.EncodeReplyEnd(wire.Reply{
				CorrelationID: "c", Status: codes.Internal,
				Trailers: wire.Metadata{{"grpc-status", "0"}, {"grpc-message", "x"}, {"content-type", "x"}, {"ok", "y"}},
				Metadata: wire.Metadata{{"grpc-status-details-bin", "x"}},
			}), pairs("zilla:correlation-id", "c", "zilla:status", "13", "trailer:ok", "y"),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			diffHeaders(t, tt.got, tt.want)
		})
	}
}

func TestDecodeReply(t *testing.T) {
	t.Parallel()
	c := wire.DefaultContract()
	message := reply()
	message.Status, message.Message, message.Trailers = codes.OK, "", nil
	tests := []struct {
		name    string
		headers []wire.Header
		want    wire.Reply
	}{
		{"message", c.EncodeReplyMessage(reply()), message},
		{"end", c.EncodeReplyEnd(reply()), reply()},
		{"no status is OK", pairs("zilla:correlation-id", "c"), wire.Reply{CorrelationID: "c"}},
		{"a status without a name", pairs("zilla:status", "42"), wire.Reply{Status: 42}},
		{"a status that is none", pairs("zilla:status", "-1", "zilla:message", "m"), wire.Reply{Status: codes.Unknown, Message: "m"}},
		{"a status that is none either", pairs("zilla:status", "2147483648"), wire.Reply{Status: codes.Unknown}},
		{"a long message", pairs("zilla:message", strings.Repeat("%41", 5000)), wire.Reply{Message: strings.Repeat("A", 5000)}},
		{
			"reserved names", pairs("meta:grpc-status", "1", "trailer:grpc-status", "1", "trailer::path", "/", "trailer:a", "b"),
			wire.Reply{Trailers: wire.Metadata{{"a", "b"}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.DecodeReply(tt.headers)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeReplyErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, header, value, want string }{
		{"status", "zilla:status", "NOT_FOUND", `header "zilla:status": "NOT_FOUND" is not a gRPC status`},
		{"empty status", "zilla:status", "", `header "zilla:status"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := wire.DefaultContract().DecodeReply(pairs(tt.header, tt.value, "zilla:correlation-id", "c", "grpc:call", "a"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
			if got.Status != codes.Internal || got.CorrelationID != "c" || got.Call != "a" {
				t.Errorf("reply = %+v", got)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	c := wire.DefaultContract()
	id, call := c.Names(c.EncodeReplyEnd(reply()))
	if string(id) != "k1-0123" || string(call) != "attempt-1" {
		t.Errorf("Names = %q, %q", id, call)
	}
	if id, call = c.Names(pairs("x", "y")); id != nil || call != nil {
		t.Errorf("Names = %q, %q of a foreign record", id, call)
	}
}

func FuzzDecodeReply(f *testing.F) {
	f.Add("zilla:correlation-id", "c", "zilla:status", "5", "zilla:message", "a%20b")
	f.Add("trailer:grpc-status-details-bin", "CAU=", "trailer:x", "y", "meta:x", "y")
	f.Add("grpc:call", "a", "traceparent", "p", "tracestate", "s")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2, n3, v3 string) {
		c := wire.DefaultContract()
		headers := pairs(n1, v1, n2, v2, n3, v3)
		r, err := c.DecodeReply(headers)
		id, call := c.Names(headers)
		if string(id) != r.CorrelationID || err == nil && string(call) != r.Call {
			t.Errorf("Names = %q, %q; DecodeReply has %q, %q", id, call, r.CorrelationID, r.Call)
		}
		if err != nil {
			if r.Status != codes.Internal {
				t.Errorf("status %v with error %v", r.Status, err)
			}
			return
		}
		r.LeftOut = wire.LeftOut{}
		again, err := c.DecodeReply(c.EncodeReplyEnd(r))
		if err != nil {
			t.Fatalf("our own headers: %v", err)
		}
		if diff := cmp.Diff(r, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("came back changed (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkEncodeReply(b *testing.B) {
	c, r := wire.DefaultContract(), reply()
	b.ReportAllocs()
	for b.Loop() {
		c.EncodeReplyMessage(r)
		c.EncodeReplyEnd(r)
	}
}

func BenchmarkDecodeReply(b *testing.B) {
	c := wire.DefaultContract()
	headers := c.EncodeReplyEnd(reply())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.DecodeReply(headers); err != nil {
			b.Fatal(err)
		}
	}
}
