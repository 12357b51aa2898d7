package grpcin_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"kafkagrpc/wire"
)

// What speaks HTTP/2 without being a gRPC client gets a clear answer too.
func TestAnswersBelowGRPC(t *testing.T) {
	t.Parallel()
	grpcHeaders := func() http.Header { return http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}} }
	tests := []struct {
		name   string
		path   string
		change func(*http.Request)
		code   int
		status string // grpc-status, in the headers or the trailers
		text   string
	}{
		{"method that is not POST", unary, func(r *http.Request) { r.Method = http.MethodGet }, 405, "13", `:method "GET" which should be POST`},
		{
			"other content type", unary, func(r *http.Request) { r.Header.Set("content-type", "application/json") }, 415, "3",
			`invalid gRPC request content-type "application/json"`,
		},
		{"no route", "other.Service/Method", func(*http.Request) {}, 200, "12", "no route takes it"},
		{"no method", "nonsense", func(*http.Request) {}, 200, "12", "malformed method name"},
		// The header detects proxies that know no trailers. grpc-go does not insist on it, so such a call is a call.
		{"without te: trailers", unary, func(r *http.Request) { r.Header.Del("te") }, 200, "0", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.on = echo(t, f.calls)
			var h2c http.Protocols
			h2c.SetUnencryptedHTTP2(true)
			transport := &http.Transport{Protocols: &h2c}
			defer transport.CloseIdleConnections()
			r := (&http.Request{
				Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: f.address, Path: "/" + tt.path},
				Header: grpcHeaders(), Body: io.NopCloser(strings.NewReader("\x00\x00\x00\x00\x01x")),
			}).WithContext(withPatience(t))
			tt.change(r)
			response, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			both := response.Header.Clone()
			for name, values := range response.Trailer {
				both[name] = values
			}
			if response.StatusCode != tt.code || both.Get("grpc-status") != tt.status || !strings.Contains(wire.DecodeMessage(both.Get("grpc-message")), tt.text) {
				t.Errorf("%d, %v, want %d, grpc-status %s and %q", response.StatusCode, both, tt.code, tt.status, tt.text)
			}
			if tt.status == "0" && string(body) != "\x00\x00\x00\x00\x01x" {
				t.Errorf("body %q", body)
			}
		})
	}
}
