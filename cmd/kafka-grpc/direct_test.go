package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/topology"
)

// directFile is a way to a service without Kafka, with metrics that the server alone records.
const directFile = `name: example
telemetry:
  metrics: [grpc.duration, grpc.requests.per.rpc]
  exporters:
    stdout0: {type: stdout}
    prometheus0: {type: prometheus}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, telemetry: {metrics: [grpc.*]}, exit: grpc1}
  grpc1: {type: grpc, kind: client, %s exit: http1}
  http1: {type: http, kind: client, exit: tcp1}
  tcp1: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %s}}
`

// A call that goes straight to a service is told of as one that goes through Kafka is: a trace, metrics of both sides, an event.
func TestDirectCallsAreTracedMeasuredAndTold(t *testing.T) {
	const name = "grpc.examples.echo.Echo/UnaryEcho"
	for _, tt := range []struct {
		name, client string
		recorded     []string
	}{
		{"the server alone records", "", []string{"grpc0"}},
		{"both record", "telemetry: {metrics: [grpc.*]},", []string{"grpc0", "grpc1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			echo, err := embedded.StartEcho("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := echo.Close(); err != nil {
					t.Error(err)
				}
			}()
			collector := newSpans(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
			t.Setenv("OTEL_METRICS_EXPORTER", "none")
			_, port, err := net.SplitHostPort(echo.Addr())
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "zilla.yaml")
			if err := os.WriteFile(file, fmt.Appendf(nil, directFile, tt.client, port), 0o600); err != nil {
				t.Fatal(err)
			}
			top, err := topology.Load(file, topology.Options{LookupEnv: os.LookupEnv})
			if err != nil {
				t.Fatal(err)
			}
			top.Listeners[0].Port = 0
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var events bytes.Buffer
			// Neither Kafka nor a state folder is needed.
			a, err := app.Start(ctx, app.Config{Topology: top, Admin: &app.Admin{Addr: "127.0.0.1:0"}, Stdout: &events, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.WaitReady(ctx); err != nil {
				t.Fatal(err)
			}
			trace := []byte(strings.Repeat("t", 16))
			client := grpcout.New(grpcout.Options{})
			r := client.Unary(ctx, grpcout.Target{Scheme: "http", Address: a.Addrs()[0].String()}, grpcout.Call{
				Method: name, Metadata: metadata.Pairs("traceparent", fmt.Sprintf("00-%x-00f067aa0ba902b7-01", trace)), Message: echoMessage("hi"),
			})
			if r.Status != codes.OK || !bytes.Equal(r.Messages[0], echoMessage("hi")) {
				t.Errorf("result %+v", r)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			scraped := scrape(ctx, t, a.AdminURL())
			if err := a.Stop(); err != nil { // sends all that is left
				t.Fatal(err)
			}
			const want = "orphan:\n  " + name + " [server]\n    " + name + " [client]\n"
			if got := collector.tree(trace); got != want {
				t.Errorf("the trace is\n%s\nnot\n%s", got, want)
			}
			for _, binding := range []string{"grpc0", "grpc1"} {
				line := `grpc_requests_per_rpc_sum{binding="` + binding + `",namespace="example"} 1` + "\n"
				if has, wants := strings.Contains(scraped, line), strings.Contains(strings.Join(tt.recorded, " "), binding); has != wants {
					t.Errorf("%s is recorded once: %v, in %s", binding, has, scraped)
				}
			}
			for _, series := range []string{"kafka_grpc_north_call_duration_seconds_count{", "kafka_grpc_attempts_total{"} {
				if strings.Count(scraped, series) != 1 {
					t.Errorf("not one series of %s in %s", series, scraped)
				}
			}
			if got := events.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"target":"`+echo.Addr()+`"`) || !strings.Contains(got, fmt.Sprintf(`"trace_id":"%x"`, trace)) {
				t.Errorf("events: %s", got)
			}
		})
	}
}
