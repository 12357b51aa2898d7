package wire_test

import (
	"strings"
	"testing"

	"kafkagrpc/wire"
)

func TestScopeID(t *testing.T) {
	t.Parallel()
	renamed := wire.DefaultContract()
	renamed.Service, renamed.Method, renamed.ReplyTo = "zilla:serviceexample.", "EchoServicezilla:", "methodEchoUnaryzilla:reply-to"
	test := []wire.Header{{Name: "zilla:identity", Value: []byte("test")}}
	tests := []struct {
		name                     string
		contract                 wire.Contract
		service, method, replyTo string
		overrides                []wire.Header
		want                     string
	}{
		{
			"override value", wire.DefaultContract(), "example.EchoService", "EchoUnary", "responses", test,
			"key-479f2c3fb58bc3f04bbe15440a657670",
		},
		{
			"override values in order", wire.DefaultContract(), "example.EchoService", "EchoUnary", "responses",
			[]wire.Header{{Name: "b", Value: []byte("te")}, {Name: "a"}, {Name: "a", Value: []byte("st")}},
			"key-479f2c3fb58bc3f04bbe15440a657670",
		},
		{
			"no override", wire.DefaultContract(), "example.EchoService", "EchoUnary", "responses", nil,
			"key-ff138647d3ace640b69cf64c3f729a30",
		},
		{
			"header names are part of it", renamed, "", "", "responses", nil,
			"key-ff138647d3ace640b69cf64c3f729a30",
		},
		{
			"bidirectional", wire.DefaultContract(), "grpc.examples.echo.Echo", "BidirectionalStreamingEcho", "echo-responses", nil,
			"key-46ae5cdb4b46cbb367cbad0bea36a56f",
		},
		{
			"unary", wire.DefaultContract(), "grpc.examples.echo.Echo", "UnaryEcho", "echo-responses", nil,
			"key-132e6a3c3cd99bf490609dd2718acc8a",
		},
		{
			"one-way", wire.DefaultContract(), "grpc.examples.echo.Echo", "UnaryEcho", "", nil,
			"key-d41d8cd98f00b204e9800998ecf8427e",
		},
		{
			// md5("test")
			"one-way with override", wire.DefaultContract(), "grpc.examples.echo.Echo", "UnaryEcho", "", test,
			"key-098f6bcd4621d373cade4e832627b4f6",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.contract.ScopeID("key", tt.service, tt.method, tt.replyTo, tt.overrides); got != tt.want {
				t.Errorf("ScopeID = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestCheckIdempotencyKey(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, key, wantError string }{
		{"short", "a", ""},
		{"longest", strings.Repeat("x", 223), ""},
		{"too long", strings.Repeat("x", 224), "224 bytes; at most 223"},
		{"empty", "", "empty"},
		{"any bytes", "schlüssel \x00\xff", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := wire.CheckIdempotencyKey(tt.key)
			if tt.wantError == "" && err != nil {
				t.Errorf("unexpected error: %v", err)
			}
			if tt.wantError != "" && (err == nil || !strings.Contains(err.Error(), tt.wantError)) {
				t.Errorf("error = %v, want one with %q", err, tt.wantError)
			}
		})
	}
}

func TestTableKey(t *testing.T) {
	t.Parallel()
	const digest = "132e6a3c3cd99bf490609dd2718acc8a"
	tests := []struct {
		name, id string
		metadata wire.Metadata
		want     string
	}{
		{"scoped id", "k1-" + digest, wire.Metadata{{"idempotency-key", "k1"}}, "k1-" + digest},
		{"no key", "anything", nil, "anything"},
		{"empty key", "anything", wire.Metadata{{"idempotency-key", ""}}, "anything"},
		{"foreign id", "try-7", wire.Metadata{{"x", "y"}, {"idempotency-key", "k1"}}, "k1"},
		{"id of another key", "k2-" + digest, wire.Metadata{{"idempotency-key", "k1"}}, "k1"},
		{"a longer key that ends alike", "xk1-" + digest, wire.Metadata{{"idempotency-key", "k1"}}, "k1"},
		{"too few digits", "k1-" + digest[1:], wire.Metadata{{"idempotency-key", "k1"}}, "k1"},
		{"no digits", "k1-" + strings.Repeat("g", 32), wire.Metadata{{"idempotency-key", "k1"}}, "k1"},
		{"the first key counts", "k1-" + digest, wire.Metadata{{"idempotency-key", "k1"}, {"idempotency-key", "k2"}}, "k1-" + digest},
		{"key with a dash", "a-b-" + digest, wire.Metadata{{"idempotency-key", "a-b"}}, "a-b-" + digest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := wire.Request{CorrelationID: tt.id, Metadata: tt.metadata}
			if got := wire.DefaultContract().TableKey(r); got != tt.want {
				t.Errorf("TableKey = %q, want %q", got, tt.want)
			}
		})
	}

	t.Run("renamed metadata", func(t *testing.T) {
		t.Parallel()
		c := wire.DefaultContract()
		c.IdempotencyMetadata = "Request-Id"
		r := wire.Request{CorrelationID: "try-7", Metadata: wire.Metadata{{"idempotency-key", "k1"}, {"request-id", "k2"}}}
		if got := c.TableKey(r); got != "k2" {
			t.Errorf("TableKey = %q, want k2", got)
		}
	})
}
