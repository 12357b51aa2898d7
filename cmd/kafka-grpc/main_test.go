package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kafkagrpc/internal/embedded"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One for the whole process, started by sarama's metrics and never stopped.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// Ends by itself within a second after its store is closed; Close does not wait for it.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
	)
}

const patience = 60 * time.Second

// output is safe for a command that writes while the test reads.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // has room for one
}

func newOutput() *output { return &output{changed: make(chan struct{}, 1)} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits until the output contains text.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for !strings.Contains(o.String(), text) {
		select {
		case <-o.changed:
		case <-deadline:
			t.Fatalf("no %q within %s in: %s", text, patience, o)
		}
	}
}

func environment(pairs ...string) func(string) (string, bool) {
	values := map[string]string{
		"ECHO_SERVER_HOST": "127.0.0.1", "ECHO_SERVER_PORT": "50051", "KEYSTORE_PASSWORD": "changeit",
		"KAFKA_GRPC_ADMIN_ADDR": "127.0.0.1:0", // tests run beside each other
	}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

func seedFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := embedded.WriteSeed(dir, "changeit"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "zilla.yaml")
}

// seedOnFreePorts is the seed with other ports than its own, which others on this machine may have.
func seedOnFreePorts(t *testing.T) (file, plain, secure string) {
	t.Helper()
	file = seedFile(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	plain, secure = freePort(t), freePort(t)
	if err := os.WriteFile(file, []byte(strings.NewReplacer("7151", plain, "7153", secure).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, plain, secure
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	seed := seedFile(t)
	bad := filepath.Join(t.TempDir(), "zilla.yaml")
	if err := os.WriteFile(bad, []byte("name: x\nbindngs: {}\ncatlogs: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		env    []string
		code   int
		stdout []string
		stderr []string
	}{
		{name: "help", code: 0, stdout: []string{"run ", "check ", "demo ", "version ", "KAFKA_GRPC_<FLAG>"}},
		{name: "unknown command", args: []string{"rnu"}, code: 2, stderr: []string{`"rnu"`}},
		{name: "unknown flag", args: []string{"run", "--cofig", "x"}, code: 2, stderr: []string{"--cofig"}},
		{name: "run without a file", args: []string{"run"}, code: 2, stderr: []string{"-c zilla.yaml"}},
		{name: "argument too many", args: []string{"check", "-c", seed, "x"}, code: 2, stderr: []string{`"x"`}},
		{name: "unknown output", args: []string{"check", "-c", seed, "-o", "xml"}, code: 2, stderr: []string{`"xml"`, "mermaid"}},
		{name: "unknown log level", args: []string{"run", "-c", seed, "--log-level", "loud"}, code: 2, stderr: []string{"--log-level"}},
		{name: "no such file", args: []string{"check", "-c", seed + "x"}, code: 1, stderr: []string{"zilla.yamlx"}},
		{name: "check", args: []string{"check", "-c", seed}, code: 0, stdout: []string{"0.0.0.0:7151", "kafka:29092", "example-west_kafka_grpc_remote_server"}},
		{name: "check as JSON", args: []string{"check", "-c", seed, "-o", "json"}, code: 0, stdout: []string{`"namespace": "example"`}},
		{name: "check as mermaid", args: []string{"check", "-c", seed, "-o", "mermaid"}, code: 0, stdout: []string{"flowchart"}},
		{name: "check with flags", args: []string{"check", "-c", seed, "--listen", "127.0.0.1", "--brokers", "a:1,b:2"}, code: 0, stdout: []string{"127.0.0.1:7151", "a:1", "b:2"}},
		{
			name: "flags by environment", args: []string{"check", "-c", seed}, env: []string{"KAFKA_GRPC_LISTEN", "127.0.0.1", "KAFKA_GRPC_BROKERS", "a:1,b:2"},
			code: 0, stdout: []string{"127.0.0.1:7151", "a:1", "b:2"},
		},
		{
			name: "the command line wins", args: []string{"check", "-c", seed, "--listen", "127.0.0.2"}, env: []string{"KAFKA_GRPC_LISTEN", "127.0.0.1"},
			code: 0, stdout: []string{"127.0.0.2:7151"},
		},
		{name: "bad environment", args: []string{"run", "-c", seed}, env: []string{"KAFKA_GRPC_CREATE_TOPICS", "many"}, code: 2, stderr: []string{"KAFKA_GRPC_CREATE_TOPICS"}},
		{name: "all errors at once", args: []string{"check", "-c", bad}, code: 1, stderr: []string{bad + ":2:1", "`bindings`", bad + ":3:1", "`catalogs`"}},
		{name: "run checks too", args: []string{"run", "-c", bad}, code: 1, stderr: []string{bad + ":2:1", bad + ":3:1"}},
		{name: "schema", args: []string{"schema"}, code: 0, stdout: []string{"https://json-schema.org/draft/2020-12/schema", "binding-kafka-grpc-remote_server", `"default": "24h"`}},
		{name: "schema of a file", args: []string{"schema", seed}, code: 2, stderr: []string{"unexpected argument"}},
		{name: "help of schema", args: []string{"schema", "--help"}, code: 0, stdout: []string{"JSON Schema", "kafka-grpc schema > zilla.schema.json"}},
		{name: "completion", args: []string{"__complete", "sch"}, code: 0, stdout: []string{"schema\tPrint a JSON Schema"}},
		{name: "version", args: []string{"version"}, code: 0, stdout: []string{"kafka-grpc ", "go1."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if code := execute(t.Context(), c.args, &stdout, &stderr, environment(c.env...)); code != c.code {
				t.Errorf("exit code %d, not %d", code, c.code)
			}
			for _, want := range c.stdout {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("no %q on standard output: %s", want, &stdout)
				}
			}
			for _, want := range c.stderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("no %q on standard error: %s", want, &stderr)
				}
			}
			if strings.Contains(stdout.String()+stderr.String(), "changeit") {
				t.Error("the keystore's password is printed")
			}
		})
	}
}

func TestDemo(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), []string{"demo", "--once"}, &stdout, &stderr, environment()); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	for _, want := range []string{
		`reply {"message": "hi"}`, "called once", "Topic echo-requests", "zilla:correlation-id", "value null: the end",
		"Topic echo-responses", "zilla:status           0", "state        final",
	} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in: %s", want, &stdout)
		}
	}
}

// Without --once the demo stays up and suggests commands until it is stopped.
func TestDemoStaysUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := newOutput(), newOutput()
	code := make(chan int, 1)
	go func() { code <- execute(ctx, []string{"demo"}, stdout, stderr, environment()) }()
	stdout.await(t, "grpcurl -plaintext")
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}

// The demo suggests a command as it can be typed where the demo was started.
func TestTyped(t *testing.T) {
	t.Parallel()
	for arg0, want := range map[string]string{
		"./kafka-grpc": "./kafka-grpc", "kafka-grpc": "kafka-grpc", "/tmp/go-build12/b001/exe/kafka-grpc": "go run ./cmd/kafka-grpc",
	} {
		if got := typed(arg0); got != want {
			t.Errorf("started as %s: %q, want %q", arg0, got, want)
		}
	}
}

func TestRunOnEmbeddedKafkaUntilStopped(t *testing.T) {
	seed, plain, secure := seedOnFreePorts(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := newOutput(), newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", seed, "--listen", "127.0.0.1", "--embedded-kafka", "--state-dir", t.TempDir()}, stdout, stderr, environment())
	}()
	stderr.await(t, "ready grpc://127.0.0.1:"+plain+" grpcs://127.0.0.1:"+secure+" ")
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}

// A file without listeners runs too, until it is told to stop.
func TestRunWithoutListenersUntilStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := newOutput(), newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", "../../e2e/chaos/testdata/zilla.yaml", "--embedded-kafka", "--state-dir", t.TempDir()},
			stdout, stderr, environment("SERVICE_HOST", "127.0.0.1", "SERVICE_PORT", "1"))
	}()
	stderr.await(t, "ready group=chaos-west")
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}

// A start that fails leaves nothing behind.
func TestRunFailsOnMissingTopics(t *testing.T) {
	seed := seedFile(t)
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	var stdout, stderr bytes.Buffer
	code := execute(t.Context(), []string{"run", "-c", seed, "--listen", "127.0.0.1", "--brokers", kafka.Brokers()[0], "--state-dir", t.TempDir()},
		&stdout, &stderr, environment())
	if code != 1 || !strings.Contains(stderr.String(), "echo-requests") || !strings.Contains(stderr.String(), "echo-responses") {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
}

// Nobody knows that a bare number is one of nanoseconds.
func TestLogInJSONHasReadableDurations(t *testing.T) {
	t.Parallel()
	out := newOutput()
	newLog(out, slog.LevelInfo).Info("again", "wait", 1500*time.Millisecond)
	if !strings.Contains(out.String(), `"wait":"1.5s"`) {
		t.Error(out)
	}
}
