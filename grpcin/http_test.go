package grpcin_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"kafkagrpc/wire"
)

// What speaks HTTP/2 without being a gRPC client gets a clear answer too.
// plainRequest is a call with the message "x" as HTTP/2 alone sees it: nothing of a client of gRPC does anything about it.
func plainRequest(ctx context.Context, f *front, path string) *http.Request {
	return (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: f.address, Path: "/" + path},
		Header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}},
		Body:   io.NopCloser(strings.NewReader("\x00\x00\x00\x00\x01x")),
	}).WithContext(ctx)
}

// roundTrip answers the code of HTTP, the body, and both headers and trailers.
func roundTrip(r *http.Request) (code int, body []byte, all http.Header, err error) {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &h2c}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	all = response.Header.Clone()
	for name, values := range response.Trailer {
		all[name] = values
	}
	return response.StatusCode, body, all, err
}

func TestAnswersBelowGRPC(t *testing.T) {
	t.Parallel()
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
			r := plainRequest(withPatience(t), f, tt.path)
			tt.change(r)
			code, body, both, err := roundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if code != tt.code || both.Get("grpc-status") != tt.status || !strings.Contains(wire.DecodeMessage(both.Get("grpc-message")), tt.text) {
				t.Errorf("%d, %v, want %d, grpc-status %s and %q", code, both, tt.code, tt.status, tt.text)
			}
			if tt.status == "0" && string(body) != "\x00\x00\x00\x00\x01x" {
				t.Errorf("body %q", body)
			}
		})
	}
}
