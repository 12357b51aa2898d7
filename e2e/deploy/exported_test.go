package deploy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// labelSet are names of labels.
type labelSet map[string]bool

func labelled(names ...string) labelSet {
	out := labelSet{}
	for _, n := range names {
		out[n] = true
	}
	return out
}

func (l labelSet) String() string { return "{" + strings.Join(slices.Sorted(maps.Keys(l)), ", ") + "}" }

// exported are the labels of the series that Prometheus has of an instance, by their names: those that the documentation lists, which
// is held against the code, and what else the demo exports. What is in both must have the same labels.
func exported(t *testing.T) map[string]labelSet {
	t.Helper()
	out := documented(t)
	text, format, pushed := demo(t)
	maps.Copy(out, runtimeOf(t, pushed))
	seen := 0
	for name, scraped := range scraped(t, text, format) {
		known, ok := out[name]
		switch {
		case ok && !maps.Equal(known, scraped):
			t.Errorf("%s has the labels %v, documented are %v", name, scraped, known)
		case ok:
			seen++
		case strings.HasPrefix(name, "kafka_grpc_"):
			t.Errorf("%s is not documented", name)
		}
		out[name] = scraped
	}
	if seen < 20 {
		t.Errorf("of what is documented, the demo has %d series only", seen)
	}
	for _, l := range out {
		l["job"], l["instance"] = true, true // of Prometheus
	}
	return out
}

// documented are the series of the tables in docs/observability.md.
func documented(t *testing.T) map[string]labelSet {
	t.Helper()
	page, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]labelSet{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `[\\w.]+` \\| (counter|gauge|histogram) \\| ([^|]*) \\|").FindAllSubmatch(page, -1) {
		name, kind, names := string(row[1]), string(row[2]), strings.FieldsFunc(string(row[3]), func(r rune) bool { return r == ',' || r == ' ' })
		if kind != "histogram" {
			out[name] = labelled(names...)
			continue
		}
		out[name+"_sum"], out[name+"_count"], out[name+"_bucket"] = labelled(names...), labelled(names...), labelled(append(names, "le")...)
	}
	return out
}

// demo runs the demo, and answers what Prometheus reads of it after its calls, and what is pushed at its end.
func demo(t *testing.T) (text []byte, format string, pushed io.Reader) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	demo := exec.CommandContext(t.Context(), path, "demo")
	demo.Env = append(os.Environ(), "OTEL_METRICS_EXPORTER=console")
	demo.Cancel = func() error { return demo.Process.Signal(syscall.SIGTERM) }
	demo.WaitDelay = time.Minute
	var stderr bytes.Buffer
	demo.Stderr = &stderr
	pipe, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	stdout := bufio.NewReader(pipe)
	stop := sync.OnceValue(func() io.Reader {
		_ = demo.Process.Signal(syscall.SIGTERM)
		rest, err := io.ReadAll(stdout) // ends with the program
		if err := errors.Join(err, demo.Wait()); err != nil {
			t.Errorf("kafka-grpc demo: %v: %s", err, &stderr)
		}
		return bytes.NewReader(rest)
	})
	defer stop()
	admin := ""
	for admin == "" {
		line, err := stdout.ReadString('\n')
		if err != nil {
			t.Fatalf("kafka-grpc demo does not say where its page is: %v: %s", err, &stderr)
		}
		if address, ok := strings.CutPrefix(line, "The page of this instance: "); ok {
			admin = strings.TrimSpace(address)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin+"metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	response, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err = io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v", response.Status, err)
	}
	return text, response.Header.Get("Content-Type"), stop()
}

// scraped are the series that Prometheus reads from a text.
func scraped(t *testing.T, text []byte, format string) map[string]labelSet {
	t.Helper()
	parser, err := textparse.New(text, format, nil, textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]labelSet{}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("/metrics: %v", err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var series promlabels.Labels
		parser.Labels(&series)
		has := labelSet{}
		series.Range(func(l promlabels.Label) {
			if l.Name != model.MetricNameLabel {
				has[l.Name] = true
			}
		})
		out[series.Get(model.MetricNameLabel)] = has
	}
}

// runtimeOf are the sizes among the metrics of the Go runtime that are pushed, which have other names than those on /metrics, as
// Prometheus calls them when it gets them with OTLP.
func runtimeOf(t *testing.T, pushed io.Reader) map[string]labelSet {
	t.Helper()
	var all struct {
		ScopeMetrics []struct {
			Metrics []struct {
				Name, Unit string
				Data       struct {
					DataPoints []struct{ Attributes []struct{ Key string } }
				}
			}
		}
	}
	if err := json.NewDecoder(pushed).Decode(&all); err != nil {
		t.Fatalf("the metrics that the demo pushes: %v", err)
	}
	translated := strings.NewReplacer(".", "_")
	out := map[string]labelSet{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			if !strings.HasPrefix(m.Name, "go.") || m.Unit != "By" || len(m.Data.DataPoints) == 0 {
				continue
			}
			has := labelSet{}
			for _, a := range m.Data.DataPoints[0].Attributes {
				has[translated.Replace(a.Key)] = true
			}
			out[translated.Replace(m.Name)+"_bytes"] = has
		}
	}
	return out
}
