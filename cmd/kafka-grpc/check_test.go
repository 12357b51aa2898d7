package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/pkitest"
)

// check --connect prints a row for each trial; its exit code says whether one failed.
func TestCheckConnect(t *testing.T) {
	t.Parallel()
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{"echo-requests": 2, "echo-responses": 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	service, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(service.Addr())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, embedded.Seed()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tls"), 0o755); err != nil {
		t.Fatal(err)
	}
	pkitest.WriteKey(t, filepath.Join(dir, "tls", "localhost.p12"), pkitest.NewAuthority(t, "authority").Issue(t, "localhost"))
	env := func(name string) (string, bool) {
		value, ok := map[string]string{"ECHO_SERVER_HOST": host, "ECHO_SERVER_PORT": port, "KEYSTORE_PASSWORD": pkitest.Password}[name]
		return value, ok
	}
	try := func(args ...string) (code int, stdout, stderr string) {
		out, errs := newOutput(), newOutput()
		all := append([]string{"check", "--connect", "-c", filepath.Join(dir, "zilla.yaml"), "--brokers", kafka.Brokers()[0]}, args...)
		code = execute(t.Context(), all, out, errs, env)
		return code, out.String(), errs.String()
	}

	code, out, errs := try()
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, %s", code, errs)
	}
	for _, want := range []string{"WHAT", "certificate", "CN=localhost", "expires in 89 days", kafka.Brokers()[0], "echo-requests", "2 partitions", "target", "http://" + service.Addr()} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "FAILED") {
		t.Errorf("a trial failed:\n%s", out)
	}

	code, out, _ = try("-o", "json")
	var rows []struct{ What, Name, Result, Detail string }
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != exitOK || len(rows) == 0 || rows[0].What != "certificate" {
		t.Errorf("exit code %d, %v, %s", code, err, out)
	}

	if code, _, errs := try("-o", "mermaid"); code != exitUsage || !strings.Contains(errs, "text or json") {
		t.Errorf("mermaid: exit code %d, %s", code, errs)
	}

	if err := service.Close(); err != nil {
		t.Fatal(err)
	}
	code, out, errs = try()
	if code != exitFailure || !strings.Contains(out, "FAILED") || !strings.Contains(errs, "1 of ") {
		t.Errorf("without the service: exit code %d, %s\n%s", code, errs, out)
	}
}
