package wire_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kafkagrpc/wire"
)

// pairs makes headers of "name", "value", ...
func pairs(s ...string) []wire.Header {
	headers := make([]wire.Header, 0, len(s)/2)
	for i := 0; i < len(s); i += 2 {
		headers = append(headers, wire.Header{Name: s[i], Value: []byte(s[i+1])})
	}
	return headers
}

// text shows headers one a line, so that a difference can be read.
func text(headers []wire.Header) []string {
	lines := make([]string, 0, len(headers))
	for _, h := range headers {
		lines = append(lines, fmt.Sprintf("%s=%q null=%t", h.Name, h.Value, h.Value == nil))
	}
	return lines
}

func diffHeaders(t *testing.T, got, want []wire.Header) {
	t.Helper()
	if diff := cmp.Diff(text(want), text(got)); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func request() wire.Request {
	return wire.Request{
		Service: "grpc.examples.echo.Echo", Method: "UnaryEcho", ReplyTo: "echo-responses", CorrelationID: "k1-0123",
		Call:     "attempt-1",
		Deadline: time.UnixMilli(1700000000123),
		Canceled: true,
		Trace:    wire.Trace{Parent: "00-1-2-01", State: "a=b", Baggage: "c=d"},
		Metadata: wire.Metadata{{"idempotency-key", "k1"}, {"x", "2"}, {"a-bin", "\x00\xff"}, {"x", "1"}},
	}
}

func TestEncodeRequest(t *testing.T) {
	t.Parallel()
	four := []string{
		"zilla:service", "grpc.examples.echo.Echo", "zilla:method", "UnaryEcho",
		"zilla:reply-to", "echo-responses", "zilla:correlation-id", "k1-0123",
	}
	renamed := wire.DefaultContract()
	renamed.Service, renamed.Method, renamed.ReplyTo, renamed.CorrelationID = "s", "m", "r", "c"
	allowing := wire.DefaultContract()
	allowing.AllowMetadata = []string{"Authorization"}

	tests := []struct {
		name      string
		contract  wire.Contract
		request   func() wire.Request
		overrides []wire.Header
		want      []wire.Header
	}{
		{
			"everything, in the contract's order", wire.DefaultContract(), request,
			pairs("zilla:identity", "test", "a", "1", "a", "2"),
			pairs(append(append([]string{"zilla:identity", "test", "a", "1", "a", "2"}, four...),
				"meta:idempotency-key", "k1", "meta:x", "2", "meta:a-bin", "AP8", "meta:x", "1",
				"grpc:call", "attempt-1", "grpc:deadline", "1700000000123", "grpc:canceled", "1",
				"traceparent", "00-1-2-01", "tracestate", "a=b", "baggage", "c=d")...),
		},
		{
			"only what must be", wire.DefaultContract(), func() wire.Request {
				r := request()
				return wire.Request{Service: r.Service, Method: r.Method, ReplyTo: r.ReplyTo, CorrelationID: r.CorrelationID}
			}, nil, pairs(four...),
		},
		{
			"one-way", wire.DefaultContract(), func() wire.Request {
				return wire.Request{Service: "s", Method: "m", CorrelationID: "id", Metadata: wire.Metadata{{"x", "y"}}}
			}, pairs("o", "v"), pairs("o", "v", "meta:x", "y"),
		},
		{
			"renamed headers", renamed, func() wire.Request {
				return wire.Request{Service: "S", Method: "M", ReplyTo: "R", CorrelationID: "C"}
			}, nil, pairs("s", "S", "m", "M", "r", "R", "c", "C"),
		},
		{
			"reserved metadata", wire.DefaultContract(), func() wire.Request {
				return wire.Request{Metadata: wire.Metadata{
					{":authority", "x"}, {"grpc-timeout", "1S"}, {"GRPC-Trace-Bin", "x"}, {"Content-Type", "x"}, {"te", "trailers"},
					{"user-agent", "x"}, {"service-name", "x"}, {"authorization", "secret"}, {"Cookie", "secret"}, {"", "x"},
					{"Content-Length", "9"}, {"connection", "x"}, {"host", "x"}, {"keep-alive", "x"}, {"proxy-connection", "x"},
					{"transfer-encoding", "x"}, {"upgrade", "x"},
					{"X-Kept", "y"},
				}}
			}, nil, pairs("meta:x-kept", "y"),
		},
		{
			"allowed metadata", allowing, func() wire.Request {
				return wire.Request{Metadata: wire.Metadata{{"authorization", "a"}, {"cookie", "c"}}}
			}, nil, pairs("meta:authorization", "a"),
		},
		{
			"a deadline before 1970", wire.DefaultContract(), func() wire.Request {
				return wire.Request{Deadline: time.UnixMilli(-5)}
			}, nil, pairs("grpc:deadline", "0"),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			diffHeaders(t, tt.contract.EncodeRequest(tt.request(), tt.overrides), tt.want)
		})
	}
}

func TestDecodeRequest(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1700000000000)
	allowing := wire.DefaultContract()
	allowing.AllowMetadata = []string{"cookie"}
	tests := []struct {
		name     string
		contract wire.Contract
		headers  []wire.Header
		want     wire.Request
	}{
		{"what was encoded", wire.DefaultContract(), wire.DefaultContract().EncodeRequest(request(), pairs("o", "v")), request()},
		{"nothing", wire.DefaultContract(), nil, wire.Request{}},
		{
			"an override cannot replace a header", wire.DefaultContract(),
			pairs("zilla:service", "override", "zilla:service", "real"), wire.Request{Service: "real"},
		},
		{
			"names in any case", wire.DefaultContract(), pairs("meta:X-Bin", "AP8", "meta:Y", "z"),
			wire.Request{Metadata: wire.Metadata{{"x-bin", "\x00\xff"}, {"y", "z"}}},
		},
		{
			"binary, padded or not, joined or not", wire.DefaultContract(),
			pairs("meta:a-bin", "YQ==", "meta:a-bin", "YQ", "meta:a-bin", "", "meta:a-bin", "YQ,YmI="),
			wire.Request{Metadata: wire.Metadata{{"a-bin", "a"}, {"a-bin", "a"}, {"a-bin", ""}, {"a-bin", "a"}, {"a-bin", "bb"}}},
		},
		{
			"reserved metadata", wire.DefaultContract(),
			pairs("meta::path", "/", "meta:grpc-encoding", "gzip", "meta:te", "trailers", "meta:authorization", "secret", "meta:cookie", "secret", "meta:", "x", "meta:a", "b"),
			wire.Request{Metadata: wire.Metadata{{"a", "b"}}},
		},
		{"allowed metadata", allowing, pairs("meta:cookie", "c"), wire.Request{Metadata: wire.Metadata{{"cookie", "c"}}}},
		{"other canceled", wire.DefaultContract(), pairs("grpc:canceled", "0"), wire.Request{}},
		{
			"timeout", wire.DefaultContract(), pairs("meta:grpc-timeout", "1500m"),
			wire.Request{Deadline: at.Add(1500 * time.Millisecond)},
		},
		{"timeout in hours", wire.DefaultContract(), pairs("meta:grpc-timeout", "2H"), wire.Request{Deadline: at.Add(2 * time.Hour)}},
		{
			"timeout longer than a duration", wire.DefaultContract(), pairs("meta:grpc-timeout", "99999999H"),
			wire.Request{Deadline: at.Add(math.MaxInt64)},
		},
		{
			"deadline before timeout", wire.DefaultContract(), pairs("meta:grpc-timeout", "1H", "grpc:deadline", "1700000000001"),
			wire.Request{Deadline: at.Add(time.Millisecond)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.contract.DecodeRequest(tt.headers, at)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRequestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, header, value, want string }{
		{"idempotency key", "meta:idempotency-key", "a\x00b", `header "meta:idempotency-key": the value has control characters`},
		{"deadline", "grpc:deadline", "soon", `header "grpc:deadline": "soon" is not a time`},
		{"negative deadline", "grpc:deadline", "-1", `header "grpc:deadline"`},
		{"empty deadline", "grpc:deadline", "", `header "grpc:deadline"`},
		{"timeout without unit", "meta:grpc-timeout", "100", `header "meta:grpc-timeout": "100" is not a gRPC timeout`},
		{"timeout without number", "meta:grpc-timeout", "S", `header "meta:grpc-timeout"`},
		{"timeout too long", "meta:grpc-timeout", "123456789S", `header "meta:grpc-timeout"`},
		{"call too long", "grpc:call", strings.Repeat("x", 65), `header "grpc:call": 65 bytes; at most 64`},
		{"call not printable", "grpc:call", "\x00", `header "grpc:call"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			headers := append(pairs(tt.header, tt.value, "grpc:deadline", "?"), wire.DefaultContract().EncodeRequest(wire.Request{
				Service: "s", Method: "m", ReplyTo: "r", CorrelationID: "c", Metadata: wire.Metadata{{"kept", "1"}},
			}, nil)...)
			r, err := wire.DefaultContract().DecodeRequest(headers, time.UnixMilli(1))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `header "grpc:deadline": "?"`) {
				t.Errorf("error = %v, want one with %q and grpc:deadline", err, tt.want)
			}
			want := wire.Request{Service: "s", Method: "m", ReplyTo: "r", CorrelationID: "c", Metadata: wire.Metadata{{"kept", "1"}}}
			if diff := cmp.Diff(want, r); diff != "" {
				t.Errorf("the rest of the request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFullMethod(t *testing.T) {
	t.Parallel()
	if got := request().FullMethod(); got != "grpc.examples.echo.Echo/UnaryEcho" {
		t.Errorf("FullMethod = %q", got)
	}
}

// What strangers write must not panic, and what could be read must come back the same from what we write.
func FuzzDecodeRequest(f *testing.F) {
	f.Add("zilla:service", "s", "meta:x-bin", "AP8=", "grpc:deadline", "1")
	f.Add("meta:grpc-timeout", "99999999H", "meta:", "", "grpc:call", "a")
	f.Add("meta:A", "b", "meta:a", "c", "grpc:canceled", "1")
	f.Add("traceparent", "p", "tracestate", "s", "zilla:reply-to", "r")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2, n3, v3 string) {
		c := wire.DefaultContract()
		r, err := c.DecodeRequest(pairs(n1, v1, n2, v2, n3, v3), time.UnixMilli(1700000000000))
		if err != nil {
			return
		}
		if r.ReplyTo == "" {
			r.ReplyTo = "r" // without one the four headers are not written
		}
		r.Deadline, r.LeftOut = r.Deadline.Truncate(time.Millisecond), wire.LeftOut{}
		again, err := c.DecodeRequest(c.EncodeRequest(r, nil), time.Time{})
		if err != nil {
			t.Fatalf("our own headers: %v", err)
		}
		if diff := cmp.Diff(r, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("came back changed (-want +got):\n%s", diff)
		}
		_ = c.TableKey(r)
	})
}

func BenchmarkEncodeRequest(b *testing.B) {
	c, r := wire.DefaultContract(), request()
	b.ReportAllocs()
	for b.Loop() {
		c.EncodeRequest(r, nil)
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	c := wire.DefaultContract()
	headers := c.EncodeRequest(request(), nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.DecodeRequest(headers, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}
