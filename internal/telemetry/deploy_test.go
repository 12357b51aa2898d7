package telemetry_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"kafkagrpc/internal/telemetry"
)

// queries are those of the alert rules and of the dashboard, by the name of the alert or panel.
func queries(t *testing.T) map[string]string {
	t.Helper()
	read := func(path string, parse func([]byte, any) error, into any) {
		t.Helper()
		text, err := os.ReadFile("../../deploy/observability/" + path)
		if err == nil {
			err = parse(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]string{}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      struct{ Severity string }
				Annotations struct{ Summary string }
			}
		}
	}
	read("alerts.yaml", func(b []byte, v any) error { return yaml.Unmarshal(b, v) }, &rules)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Labels.Severity == "" || r.Annotations.Summary == "" {
				t.Errorf("an alert is not whole: %+v", r)
			}
			out["alert "+r.Alert] = r.Expr
		}
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	read("dashboard.json", json.Unmarshal, &dashboard)
	for _, p := range dashboard.Panels {
		for i, target := range p.Targets {
			out["panel "+p.Title+" "+string(rune('A'+i))] = target.Expr
		}
	}
	return out
}

// The queries ask for metrics that there are, by labels that these have, and each metric is shown somewhere.
func TestQueriesAreOfExportedMetrics(t *testing.T) {
	t.Parallel()
	labels := map[string][]string{}
	shown := map[string]bool{}
	for _, s := range telemetry.Specs() {
		name := s.PrometheusName()
		shown[name] = name == "kafka_grpc_events_dropped_total"
		labels[name] = append(s.Labels(), "instance", "job")
		if strings.HasSuffix(name, "_duration_seconds") {
			labels[name+"_bucket"] = append(labels[name], "le")
		}
	}
	all := queries(t)
	if len(all) < 20 {
		t.Fatalf("only %d queries", len(all))
	}
	metric := regexp.MustCompile(`kafka_grpc_[a-z_]+`)
	by := regexp.MustCompile(`by \(([^)]*)\)`)
	matcher := regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"`)
	for where, query := range all {
		if strings.Count(query, "(") != strings.Count(query, ")") || strings.Count(query, "{") != strings.Count(query, "}") {
			t.Errorf("%s: brackets do not match in %s", where, query)
		}
		var known []string
		for _, name := range metric.FindAllString(query, -1) {
			l, ok := labels[name]
			if !ok {
				t.Errorf("%s: %s is not exported", where, name)
			}
			known = append(known, l...)
			shown[strings.TrimSuffix(name, "_bucket")] = true
		}
		if len(known) == 0 {
			continue // of the process
		}
		var used []string
		for _, m := range by.FindAllStringSubmatch(query, -1) {
			for _, l := range strings.Split(m[1], ",") {
				used = append(used, strings.TrimSpace(l))
			}
		}
		for _, m := range matcher.FindAllStringSubmatch(query, -1) {
			used = append(used, m[1])
		}
		for _, l := range used {
			if !slices.Contains(known, l) {
				t.Errorf("%s: the metrics have no label %s: %s", where, l, query)
			}
		}
	}
	for name, is := range shown {
		if !is {
			t.Errorf("%s is on no panel", name)
		}
	}
}
