package telemetry_test

import (
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Spans that end, and metrics that are told, after attributes have changed have the new ones, and nothing is lost. The environment has the last word.
func TestAttributesChange(t *testing.T) {
	for name, c := range map[string]struct {
		env            map[string]string // {} is the collector
		file           func(url string) topology.Telemetry
		traces, meters string
	}{
		"collector of the file":        {file: ofFile, traces: "/file/traces", meters: "/file/metrics"},
		"collector of the environment": {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "{}"}, file: ofFile, traces: "/v1/traces", meters: "/v1/metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newCollector(t)
			for name, value := range c.env {
				t.Setenv(name, strings.ReplaceAll(value, "{}", server.URL))
			}
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "region=eu")
			set, err := telemetry.Setup(t.Context(), telemetry.Config{File: c.file(server.URL), Service: "test", Version: "1", Scrape: true, Log: slog.New(slog.DiscardHandler)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			tracer := set.Tracers.Tracer("test")
			_, before := tracer.Start(t.Context(), "before")
			before.End()
			_, open := tracer.Start(t.Context(), "open")
			set.Metrics.Rebalanced("group")
			if got := info(set); !strings.Contains(got, `tenant="blue"`) || !strings.Contains(got, `region="eu"`) {
				t.Errorf("scraped: %s", got)
			}

			use, err := set.Attributes(t.Context(), []wire.Field{{Name: "team", Value: "green"}, {Name: "region", Value: "us"}})
			if err != nil {
				t.Fatal(err)
			}
			use()
			open.End()
			if got := info(set); strings.Contains(got, "tenant") || !strings.Contains(got, `team="green"`) || !strings.Contains(got, `region="eu"`) || !strings.Contains(got, `service_name="test"`) {
				t.Errorf("scraped: %s", got)
			}
			if err := set.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			got := map[string]string{}
			var traces coltrace.ExportTraceServiceRequest
			if err := proto.Unmarshal([]byte(server.got[c.traces]), &traces); err != nil {
				t.Fatal(err)
			}
			for _, of := range traces.ResourceSpans {
				for _, by := range of.ScopeSpans {
					for _, s := range by.Spans {
						got[s.Name] = told(of.Resource)
					}
				}
			}
			var meters colmetrics.ExportMetricsServiceRequest
			if err := proto.Unmarshal([]byte(server.got[c.meters]), &meters); err != nil {
				t.Fatal(err)
			}
			for _, of := range meters.ResourceMetrics {
				for _, by := range of.ScopeMetrics {
					for _, m := range by.Metrics {
						if m.Name == "kafka_grpc.rebalances" {
							got[m.Name] = told(of.Resource)
						}
					}
				}
			}
			want := map[string]string{"before": "region=eu tenant=blue", "open": "region=eu team=green", "kafka_grpc.rebalances": "region=eu team=green"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("who reports (-want +got):\n%s", diff)
			}
		})
	}
}

// info is the metric that says who reports.
func info(set *telemetry.Telemetry) string {
	answer := httptest.NewRecorder()
	set.Scraped.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	var found []string
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "target_info") {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// told are the attributes of a reporter that tests set.
func told(by *resourcepb.Resource) string {
	var all []string
	for _, a := range by.Attributes {
		if slices.Contains([]string{"region", "tenant", "team"}, a.Key) {
			all = append(all, a.Key+"="+a.Value.GetStringValue())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
