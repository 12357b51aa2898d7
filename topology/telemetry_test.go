package topology_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// telemetryOf loads a file that has this telemetry and little else.
func telemetryOf(t *testing.T, text string) (topology.Telemetry, error) {
	t.Helper()
	small, err := os.ReadFile("testdata/small.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "seed"), os.DirFS("testdata/seed")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "zilla.yaml")
	if err := os.WriteFile(file, append(small, text...), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := topology.Load(file, topology.Options{})
	if err != nil {
		return topology.Telemetry{}, err
	}
	return loaded.Telemetry, nil
}

func TestTelemetry(t *testing.T) {
	t.Parallel()
	got, err := telemetryOf(t, `
telemetry:
  attributes: {tenant: blue, zone: a}
  exporters:
    out: {type: stdout}
    plain: {type: otlp, options: {endpoint: {location: "http://a:4318"}}}
    special:
      type: otlp
      options:
        interval: 5
        signals: [metrics]
        endpoint: {protocol: http, location: "http://b:4318/x/", overrides: {metrics: /own/metrics, traces: /own/traces}}
    rpc: {type: otlp, options: {signals: [traces], endpoint: {protocol: grpc, location: "http://c:4317"}}}
    prom: {type: prometheus, options: {endpoints: [{scheme: http, port: 7190, path: /m}, {scheme: http, port: 1}]}}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := topology.Telemetry{
		Attributes: []wire.Field{{Name: "tenant", Value: "blue"}, {Name: "zone", Value: "a"}},
		Stdout:     true,
		OTLP: []topology.OTLP{
			{Name: "plain", Traces: "http://a:4318/v1/traces", Metrics: "http://a:4318/v1/metrics", Interval: 30 * time.Second},
			{Name: "special", Metrics: "http://b:4318/own/metrics", Interval: 5 * time.Second},
			{Name: "rpc", GRPC: true, Traces: "http://c:4317", Interval: 30 * time.Second},
		},
		Prometheus: []topology.PrometheusEndpoint{{Name: "prom", Port: 7190, Path: "/m"}, {Name: "prom", Port: 1, Path: "/metrics"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTelemetryMistakes(t *testing.T) {
	t.Parallel()
	_, err := telemetryOf(t, `
telemetry:
  exporters:
    a: {type: otlp, options: {interval: soon, endpoint: {protocol: udp, location: "collector:4318"}}}
    b: {type: prometheus, options: {endpoints: [{scheme: http, port: 70000, path: metrics}]}}
    c: {type: otlp, options: {endpoint: {location: "http://ann:the-secret@collector:port"}}}
`)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"`soon`", "`udp`", "not `http://***@collector:port`", "URL of a collector, such as http://localhost:4318, not `collector:4318`", "port from 1 to 65535, not `70000`", "path such as /metrics, not `metrics`"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "the-secret") {
		t.Errorf("a password is in: %v", err)
	}
}
