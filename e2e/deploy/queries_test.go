package deploy_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/template"
)

// What alerts and dashboard ask for and show is exported, and each metric is on a panel.
func TestQueries(t *testing.T) {
	series := exported(t)
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, series) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, series) })
}

func checkAlerts(t *testing.T, series map[string]labelSet) {
	groups, errs := rulefmt.ParseFile(filepath.Join(folder, "observability", "alerts.yaml"), false, model.UTF8Validation,
		parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil || len(groups.Groups) == 0 {
		t.Fatal("there are no rules")
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("an alert is not whole: %+v", r)
			}
			result, _, wrong := ask(series, r.Expr)
			for _, w := range wrong {
				t.Errorf("%s: %s", r.Alert, w)
			}
			values := map[string]string{}
			for name := range result {
				values[name] = "value"
			}
			for name, text := range r.Annotations {
				data := template.AlertTemplateData(values, nil, "", promql.Sample{F: 1})
				e := template.NewTemplateExpander(t.Context(), "{{$labels := .Labels}}{{$value := .Value}}"+text, r.Alert, data,
					model.TimeFromUnix(time.Now().Unix()), nil, nil, []string{"missingkey=error"})
				if _, err := e.Expand(); err != nil {
					t.Errorf("%s: %s: its result has the labels %v: %v", r.Alert, name, result, err)
				}
			}
		}
	}
}

func checkDashboard(t *testing.T, series map[string]labelSet) {
	text, err := os.ReadFile(filepath.Join(folder, "observability", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := labelSet{}
	for _, v := range dashboard.Templating.List {
		variables[v.Name] = true
		if v.Type != "query" {
			continue
		}
		values := regexp.MustCompile(`^label_values\((.+), *(\w+)\)$`).FindStringSubmatch(v.Query)
		if values == nil {
			t.Errorf("variable %s: this test does not know %s", v.Name, v.Query)
			continue
		}
		result, _, wrong := ask(series, values[1])
		if len(wrong) > 0 || !result[values[2]] {
			t.Errorf("variable %s: %s is of the labels %v: %q", v.Name, v.Query, result, wrong)
		}
	}
	shown := labelSet{}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			// Grafana puts the variables in before it asks.
			query := regexp.MustCompile(`\$\{?(\w+)\}?`).ReplaceAllStringFunc(target.Expr, func(variable string) string {
				name := strings.Trim(variable, "${}")
				if name == "__rate_interval" {
					return "5m"
				}
				if !variables[name] {
					t.Errorf("panel %s: there is no variable %s: %s", p.Title, name, target.Expr)
				}
				return "value"
			})
			result, asked, wrong := ask(series, query)
			for _, w := range wrong {
				t.Errorf("panel %s: %s", p.Title, w)
			}
			for name := range asked {
				shown[strings.TrimSuffix(name, "_bucket")] = true
			}
			for _, l := range regexp.MustCompile(`\{\{\s*(.+?)\s*\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !result[l[1]] {
					t.Errorf("panel %s: the legend shows %s, and %s has %v", p.Title, l[1], target.Expr, result)
				}
			}
		}
	}
	// Only where the file has the exporter stdout is there anything to see of it.
	shown["kafka_grpc_events_dropped_total"] = true
	for name := range series {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "kafka_grpc_") && !shown[base] {
			t.Errorf("%s is on no panel", name)
		}
	}
}
