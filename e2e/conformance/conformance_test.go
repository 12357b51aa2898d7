package conformance_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"kafkagrpc/e2e/conformance/records"
	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/wire"
)

var update = flag.Bool("update", false, "write the golden files and the table from what happens; hold both against the contract then")

func TestMain(m *testing.M) {
	if address := os.Getenv(suiteServer); address != "" {
		if err := serveSuite(address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if binaries.dir != "" {
		if err := os.RemoveAll(binaries.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

func TestOnEmbeddedKafka(t *testing.T) {
	if os.Getenv("KAFKA_GRPC_E2E") != "1" {
		t.Skip("builds and runs the program: run it with KAFKA_GRPC_E2E=1")
	}
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{})
	must(t, err)
	t.Cleanup(kafka.Close)
	runAll(t, kafka.Brokers())
}

func TestOnKafka(t *testing.T) {
	runAll(t, realkafka.Start(t, realkafka.Options{}).Brokers())
}

// scenario is a row of the table.
type scenario struct {
	group, name string
	shows       string // what caller, service and topics see
	run         func(s *stage)
}

// slug names the golden file of a scenario, and begins its idempotency keys.
func (s scenario) slug() string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(s.group+" "+s.name), "-"), "-")
}

// runAll runs the table in its order against one Kafka. The scenarios share the program, and tell their records by their keys.
func runAll(t *testing.T, brokers []string) {
	t.Helper()
	w := newWorld(t, brokers)
	var err error
	w.tap, err = newTap(brokers)
	must(t, err)
	t.Cleanup(w.tap.close)
	var slugs []string // of those that were run
	passed := 0
	for _, s := range scenarios() {
		t.Run(s.slug(), func(t *testing.T) {
			slugs = append(slugs, s.slug())
			runOne(t, w, s)
			if !t.Failed() {
				passed++
			}
		})
	}
	t.Logf("%d of %d scenarios passed", passed, len(scenarios()))
	if t.Failed() || *update {
		return
	}
	// What came later than a scenario's end.
	w.stop(t)
	for _, slug := range slugs {
		got, _ := w.tap.of(slug)
		compare(t, w, slug, got)
	}
	if others := w.tap.others(slugs); len(others) > 0 {
		t.Errorf("records that belong to no scenario:\n%s", records.Format(others))
	}
}

func runOne(t *testing.T, w *world, sc scenario) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := &stage{world: w, t: t, ctx: ctx, slug: sc.slug(), golden: golden(t, sc.slug())}
	sc.run(s)
	if *update {
		<-time.After(time.Second) // for what comes late
		got, _ := w.tap.of(s.slug)
		must(t, os.WriteFile(goldenFile(s.slug), []byte(comments(t, s.slug)+records.Format(w.normal(t, got))), 0o644))
		return
	}
	got, err := w.tap.await(ctx, s.slug, fmt.Sprintf("%d records", len(s.golden)), func(r []wire.Record) bool { return len(r) >= len(s.golden) })
	if err != nil {
		t.Error(err)
	}
	compare(t, w, s.slug, got)
}

func goldenFile(slug string) string { return filepath.Join("testdata", "records", slug+".records") }

// golden are the records of a scenario as they are written down.
func golden(t *testing.T, slug string) []wire.Record {
	t.Helper()
	content, err := os.ReadFile(goldenFile(slug))
	if errors.Is(err, os.ErrNotExist) && *update {
		return nil
	}
	must(t, err)
	all, err := records.Parse(string(content))
	if err != nil {
		t.Fatalf("%s: %v", goldenFile(slug), err)
	}
	return all
}

// comments are those at the head of a golden file.
func comments(t *testing.T, slug string) string {
	t.Helper()
	content, err := os.ReadFile(goldenFile(slug))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	must(t, err)
	var head strings.Builder
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "#") {
			break
		}
		head.WriteString(line)
	}
	return head.String()
}

func compare(t *testing.T, w *world, slug string, got []wire.Record) {
	t.Helper()
	lines := func(all []wire.Record) []string { return strings.Split(records.Format(all), "\n") }
	if diff := cmp.Diff(lines(golden(t, slug)), lines(w.normal(t, got))); diff != "" {
		t.Errorf("%s: the records differ (-want +got):\n%s", slug, diff)
	}
}

var (
	callID   = regexp.MustCompile(`^[!-~]{16,64}$`)
	deadline = regexp.MustCompile(`^[0-9]{13}$`)
)

// normal replaces what no two runs have in common, and checks its shape.
func (w *world) normal(t *testing.T, all []wire.Record) []wire.Record {
	t.Helper()
	calls := map[string]string{}
	addresses := strings.NewReplacer("127.0.0.1:"+w.service.port, "service", "127.0.0.1:"+w.raw.port, "raw-service")
	out := make([]wire.Record, len(all))
	for i, r := range all {
		out[i] = wire.Record{Topic: r.Topic, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			switch h.Name {
			case "grpc:call":
				if !callID.Match(h.Value) {
					t.Errorf("grpc:call is %q", h.Value)
				}
				if calls[string(h.Value)] == "" {
					calls[string(h.Value)] = "<call " + strconv.Itoa(len(calls)+1) + ">"
				}
				h.Value = []byte(calls[string(h.Value)])
			case "grpc:deadline":
				if !deadline.Match(h.Value) {
					t.Errorf("grpc:deadline is %q, not Unix milliseconds", h.Value)
				}
				h.Value = []byte("<deadline>")
			case "zilla:message":
				h.Value = []byte(addresses.Replace(string(h.Value)))
			}
			out[i].Headers = append(out[i].Headers, h)
		}
	}
	return out
}
