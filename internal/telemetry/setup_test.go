package telemetry_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// collector takes OTLP over HTTP and keeps what it got, by path.
type collector struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string]string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{got: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got[r.URL.Path] += string(body)
	}))
	t.Cleanup(c.Close)
	return c
}

// What is exported follows the environment, then the file.
func TestExportersOfEnvironmentAndFile(t *testing.T) {
	for name, c := range map[string]struct {
		env            map[string]string // {} is the collector
		file           func(url string) topology.Telemetry
		tracing        bool
		traces, meters string // paths at the collector; "" for none
	}{
		"nothing":               {},
		"the file":              {file: ofFile, tracing: true, traces: "/file/traces", meters: "/file/metrics"},
		"the environment":       {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "{}", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, tracing: true, traces: "/v1/traces", meters: "/v1/metrics"},
		"both":                  {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "{}", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, file: ofFile, tracing: true, traces: "/v1/traces", meters: "/v1/metrics"},
		"the file but disabled": {env: map[string]string{"OTEL_SDK_DISABLED": "true"}, file: ofFile},
		"none of the file":      {env: map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}, file: ofFile},
		"nothing is sampled":    {env: map[string]string{"OTEL_TRACES_SAMPLER": "always_off"}, file: ofFile, tracing: true, meters: "/file/metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newCollector(t)
			for name, value := range c.env {
				t.Setenv(name, strings.ReplaceAll(value, "{}", server.URL))
			}
			config := telemetry.Config{Service: "test", Version: "1", Log: slog.New(slog.DiscardHandler)}
			if c.file != nil {
				config.File = c.file(server.URL)
			}
			set, err := telemetry.Setup(t.Context(), config, nil)
			if err != nil {
				t.Fatal(err)
			}
			if set.Tracing != c.tracing {
				t.Errorf("tracing is %t", set.Tracing)
			}
			_, span := set.Tracers.Tracer("test").Start(t.Context(), "work")
			span.End()
			set.Metrics.Rebalanced("group")
			if err := set.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			for path, body := range server.got {
				switch {
				case path == c.traces && strings.Contains(body, "work"), path == c.meters && strings.Contains(body, "kafka_grpc.rebalances"):
				default:
					t.Errorf("not expected, or without its content: %s %q", path, body)
				}
				if c.file != nil && !strings.Contains(body, "blue") {
					t.Errorf("%s has no attribute of the file", path)
				}
			}
			for _, path := range []string{c.traces, c.meters} {
				if path != "" && server.got[path] == "" {
					t.Errorf("nothing came to %s", path)
				}
			}
		})
	}
}

func ofFile(url string) topology.Telemetry {
	return topology.Telemetry{
		Attributes: []wire.Field{{Name: "tenant", Value: "blue"}},
		OTLP:       []topology.OTLP{{Name: "otlp", Traces: url + "/file/traces", Metrics: url + "/file/metrics", Interval: time.Hour}},
	}
}

// A variable that means nothing stops the start, and is named.
func TestWrongEnvironmentIsAnError(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "jaegr")
	_, err := telemetry.Setup(t.Context(), telemetry.Config{Service: "test", Log: slog.New(slog.DiscardHandler)}, nil)
	if err == nil || !strings.Contains(err.Error(), "OTEL_TRACES_EXPORTER") || !strings.Contains(err.Error(), "jaegr") {
		t.Errorf("error %v", err)
	}
}

// So does one whose value cannot be read, which is not repeated: it may be a secret.
func TestVariableThatCannotBeReadIsAnErrorWithoutItsValue(t *testing.T) {
	for _, test := range []struct{ name, variable, value, want string }{
		{"no name of a header", "OTEL_EXPORTER_OTLP_HEADERS", "the-secret", "parse headers: missing '="},
		{"blank in the name", "OTEL_EXPORTER_OTLP_HEADERS", "authorization: the-secret=", "parse headers: invalid header key"},
		{"percent sign", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=the-secret%", "escape header value: a % begins no escape"},
		{"address", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://ann:the-secret@127.0.0.1:port", "invalid port"},
		{"certificate", "OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem", "/nowhere/ca.pem"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
			t.Setenv(test.variable, test.value)
			var log bytes.Buffer
			set, err := telemetry.Setup(t.Context(), telemetry.Config{Service: "test", Log: slog.New(slog.NewTextHandler(&log, nil))}, nil)
			if err == nil {
				_ = set.Stop(t.Context())
				t.Fatal("it starts")
			}
			if !strings.Contains(err.Error(), "OTEL_") || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error()+log.String(), "the-secret") {
				t.Errorf("error %v, log %s, want one with %s", err, &log, test.want)
			}
		})
	}
}

// Spans that go nowhere keep the trace of the caller.
func TestSpansWithoutExporterPassTheTraceOn(t *testing.T) {
	t.Parallel()
	record := wire.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	off := telemetry.Off()
	ctx, span := off.Tracers.Tracer("test").Start(off.Extract(t.Context(), record), "work")
	defer span.End()
	if span.IsRecording() || !trace.SpanContextFromContext(ctx).IsValid() || off.Inject(ctx, wire.Trace{}) != record {
		t.Errorf("recording %t, %+v", span.IsRecording(), off.Inject(ctx, wire.Trace{}))
	}
}
