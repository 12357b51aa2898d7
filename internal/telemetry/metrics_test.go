package telemetry_test

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
)

const known = "example.Echo/Unary"

// scraped is what /metrics answers after use, for a file of this name whose bindings select these metrics.
func scraped(t *testing.T, use func(*telemetry.Telemetry), selected ...topology.Recorded) string {
	t.Helper()
	set, err := telemetry.Setup(t.Context(), telemetry.Config{
		Name: "example", File: topology.Telemetry{Recorded: selected}, Service: "test", Version: "1", Scrape: true, Log: slog.New(slog.DiscardHandler)},
		topology.Methods{known: {}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := set.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	use(set)
	w := httptest.NewRecorder()
	set.Scraped.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// everything uses every instrument.
func everything(set *telemetry.Telemetry) {
	server(set, "north", "/example.Echo/Unary")()
	m := set.Metrics
	m.Begun(known, "requests")(codes.OK)
	for _, r := range []telemetry.Result{telemetry.ResultExecuted, telemetry.ResultStored, telemetry.ResultParked, telemetry.ResultMismatch, telemetry.ResultRefused} {
		m.Answered(known, "requests", r, codes.OK)
	}
	for _, s := range []telemetry.Stage{telemetry.StageTopic, telemetry.StageQueue, telemetry.StageCall, telemetry.StagePace, telemetry.StageReply, telemetry.StageWhole} {
		m.Took(known, s, time.Millisecond)
	}
	m.Attempted(known, "127.0.0.1:1", 2, codes.Unavailable)
	m.DeadLetter("requests", "retries_exhausted")
	m.Skipped("requests", "tombstone")
	m.Rebalanced("group")
	m.Transacted("group", 20*time.Millisecond, false)
	m.Transacted("group", time.Second, true)
	m.Waits("group", "client")
	m.Refused("people", "expired")
	m.KeysFailed("people")
	m.RetriedRow(known, telemetry.RowAnswered)
	m.Gone("group", "requests", 12)
	m.Fetching("north", "requests")
	m.Fetches(known, "requests")()
	telemetry.DropEvent(m)
	m.Loaded()
	m.Reloaded("applied")
	m.ObserveGroup("group", func() telemetry.Group {
		return telemetry.Group{
			InFlight: 2, Oldest: 3 * time.Second, Parked: 1, Waiting: 3, OldestWaiting: time.Hour, Queued: 6, Streams: 4, Ready: true,
			Claims:     []telemetry.Claim{{Topic: "requests", Partition: 7, Lag: 100, Uncommitted: 20, Held: 10, HeldBytes: 1000}},
			Recovering: 1, Recovered: 5, ToRecover: 50,
			Tables:       []telemetry.Table{{Partition: 7, Rows: 11, Bytes: 1234}},
			Standby:      map[int32]int64{3: 9},
			OpenBreakers: []string{"b:1"}, Targets: []string{"a:1", "b:1"},
		}
	})
}

func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	f, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Prometheus' own parser and linter have nothing against the metrics, each is there under its documented name, and has
// the documented labels.
func TestMetricsAreAsDocumented(t *testing.T) {
	text := scraped(t, everything, topology.Recorded{Binding: "north", Names: topology.GRPCMetrics()})
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
	found := families(t, text)
	for _, s := range append(telemetry.Specs(), telemetry.SelectedSpecs()...) {
		f := found[s.PrometheusName()]
		if f == nil {
			t.Errorf("%s is not exported", s.PrometheusName())
			continue
		}
		var labels []string
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if !slices.Contains(labels, l.GetName()) {
					labels = append(labels, l.GetName())
				}
			}
		}
		want := s.Labels()
		slices.Sort(labels)
		slices.Sort(want)
		if !slices.Equal(labels, want) {
			t.Errorf("%s has the labels %q, documented are %q", s.PrometheusName(), labels, want)
		}
		delete(found, s.PrometheusName())
	}
	for name := range found {
		if strings.HasPrefix(name, "kafka_grpc_") || strings.HasPrefix(name, "grpc_") {
			t.Errorf("%s is not documented", name)
		}
	}
	for _, runtime := range []string{"go_goroutines", "go_memstats_heap_alloc_bytes", "process_resident_memory_bytes", "target_info"} {
		if found[runtime] == nil {
			t.Errorf("%s is not exported", runtime)
		}
	}
}

// What a stranger sends never makes a series of its own.
func TestUnknownMethodsMakeNoLabels(t *testing.T) {
	text := scraped(t, func(set *telemetry.Telemetry) {
		m := set.Metrics
		for _, method := range []string{"evil.A/B", "evil.A/C", "x", ""} {
			m.Begun(method, "requests")(codes.Code(99))
			m.Answered(method, "requests", telemetry.ResultRefused, codes.Code(1000))
			m.Took(method, telemetry.StageCall, -time.Second)
			m.Attempted(method, "a:1", 1, codes.OK)
		}
	})
	if strings.Contains(text, "evil") {
		t.Errorf("an unknown method is a label: %s", text)
	}
	for _, want := range []string{
		`kafka_grpc_requests_total{method="OTHER",result="refused",service="OTHER",status="OTHER",topic="requests"} 4`,
		`kafka_grpc_stage_duration_seconds_sum{method="OTHER",service="OTHER",stage="call"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

// The table of the documentation is generated: go test ./internal/telemetry -run Documentation -update
func TestDocumentationHasTheTableOfMetrics(t *testing.T) {
	const path = "../../docs/observability.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for name, specs := range map[string][]*telemetry.Spec{"metrics": telemetry.Specs(), "selected metrics": telemetry.SelectedSpecs()} {
		var table strings.Builder
		if err := telemetry.WriteTable(&table, specs); err != nil {
			t.Fatal(err)
		}
		begin, end := "<!-- "+name+": generated -->\n", "<!-- end of "+name+" -->"
		place := regexp.MustCompile(`(?s)` + begin + `.*?` + end)
		if !place.MatchString(want) {
			t.Fatalf("%s has no place for the table of %s", path, name)
		}
		want = place.ReplaceAllLiteralString(want, begin+table.String()+end)
	}
	if want == string(text) {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the table of metrics in %s is out of date; task golden rewrites it", path)
}
