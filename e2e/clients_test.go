package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// grpcurl makes calls of all four kinds on both ports, and needs no proto file: the server describes itself.
func TestGrpcurlCallsAllKinds(t *testing.T) {
	w := newWorld(t)
	w.run("--create-topics=4")
	for _, port := range []struct {
		name, address string
		flags         []string
	}{
		{"plaintext", plainAddress, []string{"-plaintext"}},
		{"TLS", tlsAddress, []string{"-insecure", "-authority", "localhost"}},
	} {
		grpcurl := func(args ...string) string {
			t.Helper()
			all := append([]string{"-max-time", "30"}, port.flags...)
			stdout, stderr, code := output(t, exec.Command(binary(t, "grpcurl"), append(all, args...)...))
			if code != 0 {
				t.Errorf("%s: grpcurl %s: exit code %d, stdout %s, stderr %s", port.name, strings.Join(args, " "), code, stdout, stderr)
			}
			return strings.Join(strings.Fields(stdout), " ")
		}
		if got := grpcurl(port.address, "list"); !strings.Contains(got, echo) {
			t.Errorf("%s: the services are %s, without %s", port.name, got, echo)
		}
		if got := grpcurl(port.address, "describe", echo); !strings.Contains(got, "rpc BidirectionalStreamingEcho ( stream .grpc.examples.echo.EchoRequest )") {
			t.Errorf("%s: the description is %s", port.name, got)
		}
		if got := grpcurl(port.address, "grpc.health.v1.Health/Check"); got != `{ "status": "SERVING" }` {
			t.Errorf("%s: the health is %s", port.name, got)
		}
		for _, call := range []struct{ method, data, want string }{
			{"UnaryEcho", `{"message":"hi"}`, `{ "message": "hi" }`},
			{"ServerStreamingEcho", `{"message":"hi"}`, `{ "message": "hi" } { "message": "hi" } { "message": "hi" }`},
			{"ClientStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "one two" }`},
			{"BidirectionalStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "one" } { "message": "two" }`},
		} {
			if got := grpcurl("-d", call.data, port.address, echo+"/"+call.method); got != call.want {
				t.Errorf("%s: %s answers %s, not %s", port.name, call.method, got, call.want)
			}
		}
	}
}

// ghz makes many calls, 50 at once, and none fails. GHZ_CALLS is how many of each kind; the published figures are of 20,000.
func TestGhz(t *testing.T) {
	calls := "2000"
	if given := os.Getenv("GHZ_CALLS"); given != "" {
		calls = given
	}
	n, err := strconv.Atoi(calls)
	if err != nil {
		t.Fatalf("GHZ_CALLS: %v", err)
	}
	w := newWorld(t, "-quiet")
	w.run("--create-topics=8")
	for _, call := range []struct{ method, data string }{
		{"UnaryEcho", `{"message":"{{.RequestNumber}}"}`},
		{"BidirectionalStreamingEcho", `[{"message":"one"},{"message":"two"},{"message":"three"}]`},
	} {
		stdout, stderr, code := outputWithin(t, 5*time.Minute, exec.Command(binary(t, "ghz"), "--insecure", "--proto", filepath.Join(w.dir, "proto", "echo.proto"),
			"--call", echo+"."+call.method, "-d", call.data, "-n", calls, "-c", "50", "--connections", "5", "-t", "60s", "-O", "json", plainAddress))
		var report struct {
			Count        int            `json:"count"`
			Rate         float64        `json:"rps"`
			Errors       map[string]int `json:"errorDistribution"`
			Statuses     map[string]int `json:"statusCodeDistribution"`
			Distribution []struct {
				Percentage int           `json:"percentage"`
				Latency    time.Duration `json:"latency"`
			} `json:"latencyDistribution"`
		}
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 {
			t.Fatalf("ghz: exit code %d, %v\n%s%s", code, err, stdout, stderr)
		}
		if report.Count != n || report.Statuses["OK"] != n || len(report.Errors) > 0 {
			t.Errorf("%s: of %d calls %d ended, with %v %v", call.method, n, report.Count, report.Statuses, report.Errors)
		}
		t.Logf("%s: %d calls, 50 at once: %.0f/s, %v", call.method, report.Count, report.Rate, report.Distribution)
	}
}

// kcat writes a request by hand and reads its reply, with the commands of docs/records.md.
func TestKcat(t *testing.T) {
	if _, err := exec.LookPath("kcat"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs kcat: %v", err)
		}
		t.Skipf("needs kcat: %v", err)
	}
	w := newWorld(t)
	w.run("--create-topics=4")
	page, err := os.ReadFile("../docs/records.md")
	if err != nil {
		t.Fatal(err)
	}
	script := regexp.MustCompile(`(?s)\n## By hand\n.*?` + "```console\n(.*?)```").FindSubmatch(page)
	if script == nil {
		t.Fatal("docs/records.md has no commands under By hand")
	}
	commands := strings.ReplaceAll("\n"+string(script[1]), "\n$ ", "\n")
	commands = strings.ReplaceAll(commands, "127.0.0.1:9092", w.kafka.Brokers()[0])
	c := exec.Command("sh", "-ec", commands)
	c.Dir = t.TempDir()
	stdout, stderr, code := output(t, c)
	// kcat shows a null value as an empty one.
	const want = "hand-1 zilla:correlation-id=hand-1,meta:served-by=echo,grpc:message=0 \n\x02hi\n" +
		"hand-1 zilla:correlation-id=hand-1,zilla:status=0,trailer:proof-bin=AP8,trailer:spent=1,grpc:message=1 \n"
	if code != 0 || stdout != want {
		t.Errorf("exit code %d, stdout:\n%q\nnot:\n%q\nstderr:\n%s", code, stdout, want, stderr)
	}
}
