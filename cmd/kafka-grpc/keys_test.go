package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/twmb/franz-go/pkg/kgo"
)

// running runs a command until stop, and answers its admin address.
func (b *lettersBench) running(args ...string) (address string, stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	stderr := newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, append(args, "-c", b.file, "--brokers", b.brokers), newOutput(), stderr, b.env)
	}()
	stderr.await(b.t, "ready")
	url := adminAddr(b.t, stderr)
	return strings.TrimPrefix(url, "http://"), func() {
		b.t.Helper()
		cancel()
		if c := <-code; c != 0 {
			b.t.Errorf("exit code %d of %q: %s", c, args, stderr)
		}
	}
}

// keys runs a keys command that ends with an exit code.
func (b *lettersBench) keys(address string, code int, args ...string) (out, notes string) {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"keys"}, append(args, "--admin-addr", address)...)
	if got := execute(b.t.Context(), args, &stdout, &stderr, b.env); got != code {
		b.t.Fatalf("exit code %d of %q, not %d: %s%s", got, args, code, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

// await runs a keys command until its output has a text.
func (b *lettersBench) await(address, text string, args ...string) string {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-again.C {
		stdout.Reset()
		stderr.Reset()
		execute(b.t.Context(), append([]string{"keys"}, append(args, "--admin-addr", address)...), &stdout, &stderr, b.env)
		if strings.Contains(stdout.String(), text) {
			return stdout.String()
		}
	}
	b.t.Fatalf("no %q of keys %q: %s%s", text, args, &stdout, &stderr)
	return ""
}

// call is a unary request that is answered.
func call(id string) *kgo.Record { return callTo(id, "echo-responses") }

func callTo(id, replyTo string) *kgo.Record {
	r := requestRecord(id, replyTo)
	r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "grpc:deadline" })
	return r
}

// onTerminal is what a command prints on a terminal.
func (b *lettersBench) onTerminal(columns uint16, args ...string) string {
	b.t.Helper()
	terminal, end, err := pty.Open()
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	if err := pty.Setsize(end, &pty.Winsize{Rows: 24, Cols: columns}); err != nil {
		b.t.Fatal(err)
	}
	code := execute(b.t.Context(), args, end, end, b.env)
	if err := end.Close(); err != nil || code != 0 {
		b.t.Fatalf("exit code %d of %q, %v", code, args, err)
	}
	text, err := io.ReadAll(terminal)
	if err != nil && !errors.Is(err, syscall.EIO) { // which is how the end of a terminal looks
		b.t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// longest is the length of the longest line of a table, without the notes below it.
func longest(table string) (n int) {
	for line := range strings.Lines(table) {
		if !strings.Contains(line, "as of") {
			n = max(n, len([]rune(strings.TrimSuffix(line, "\n"))))
		}
	}
	return n
}

// A call is asked for at the instance that made it, and at a process that has only views.
func TestKeysOfCalls(t *testing.T) {
	b := newLettersBench(t)
	address, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state)
	defer stop()
	red := call("red")
	red.Value = echoMessage("\u009b31mred")
	b.produce(call("a-1"), call("a-2"), call("b-1"), red)
	for _, key := range []string{"a-1", "a-2", "b-1"} {
		b.await(address, key, "list")
	}
	others, stopOthers := b.running("views", "--state-dir", t.TempDir())
	defer stopOthers()
	for _, at := range []string{address, others} {
		out, _ := b.keys(at, 0, "get", "a-1")
		b.expect(out, "key            a-1", "status         OK (0)", "state          final", "grpc.examples.echo.Echo/UnaryEcho", "echo-requests", `message 1      {"message":"hi"}`, "as of")
		out, notes := b.keys(at, 0, "list", "--prefix", "a-")
		if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "KEY") || !strings.HasPrefix(lines[1], "a-1") {
			t.Errorf("the list is\n%s", out)
		}
		b.expect(notes, "2 keys, as of 20")
	}
	// A person's table is as wide as the terminal; what reads a pipe gets whole cells.
	if list := b.onTerminal(80, "keys", "list", "--admin-addr", address); !strings.Contains(list, "a-1") || longest(list) > 80 || longest(list) < 70 {
		t.Errorf("on a terminal of 80 columns the list is\n%s", list)
	}
	out, _ := b.keys(address, 0, "list", "--prefix", "a-")
	b.expect(out, "grpc.examples.echo.Echo/UnaryEcho")

	out, _ = b.keys(address, 0, "get", "a-1", "-o", "json")
	var got struct{ Entry struct{ Key, Status string } }
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Entry.Key != "a-1" || got.Entry.Status != "OK" {
		t.Errorf("%v: %s", err, out)
	}
	b.expect(b.await(address, "message 1", "get", "red"), `{"message":"\u009b31mred"}`)
	out, notes := b.keys(address, 0, "list", "-o", "json", "--limit", "1")
	var entry struct{ Key string }
	if err := json.Unmarshal([]byte(out), &entry); err != nil || entry.Key != "a-1" || strings.Count(out, "\n") != 1 {
		t.Errorf("%v: %s", err, out)
	}
	cursor := regexp.MustCompile(`--cursor (\S+)`).FindStringSubmatch(notes)
	if cursor == nil {
		t.Fatalf("no cursor in %s", notes)
	}
	out, _ = b.keys(address, 0, "list", "--cursor", cursor[1])
	b.expect(out, "a-2", "b-1")
	out, _ = b.keys(address, 0, "list", "--status", "NOT_FOUND", "--since", "1h")
	b.expect(out, "")
	_, notes = b.keys(address, 1, "get", "never")
	b.expect(notes, "never seen")
	_, notes = b.keys(address, 2, "list", "--status", "FINE")
	b.expect(notes, "status: it takes the name of a gRPC status")
	_, notes = b.keys(address, 2, "list", "--since", "yesterday")
	b.expect(notes, "--since", "15m")
	_, notes = b.keys(address, 2, "list", "-o", "xml")
	b.expect(notes, "it is table or json")

	var completed bytes.Buffer
	if code := execute(t.Context(), []string{"__complete", "keys", "get", "--admin-addr", address, "a"}, &completed, &bytes.Buffer{}, b.env); code != 0 {
		t.Errorf("exit code %d of the completion", code)
	}
	b.expect(completed.String(), "a-1\na-2\n")
}

func TestKeysAreWatched(t *testing.T) {
	b := newLettersBench(t)
	address, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state)
	defer stop()
	b.produce(call("a-1"))
	b.await(address, "a-1", "list")
	ctx, cancel := context.WithCancel(t.Context())
	stdout, stderr := newOutput(), newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"keys", "watch", "--admin-addr", address, "--recent", "1"}, stdout, stderr, b.env)
	}()
	stdout.await(t, "a-1")
	b.produce(call("a-2"))
	stdout.await(t, "a-2")
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}

func TestKeysWithoutAnInstance(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), []string{"keys", "list", "--admin-addr", "127.0.0.1:1"}, &stdout, &stderr, environment()); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(stderr.String(), "is an instance running there") {
		t.Errorf("%s", &stderr)
	}
}

// Where other machines can reach the address, keys are shown for a token, or the start is refused.
func TestAccessToTheAdminAddress(t *testing.T) {
	b := newLettersBench(t)
	var stdout, stderr bytes.Buffer
	args := []string{"run", "-c", b.file, "--listen", "127.0.0.1", "--brokers", b.brokers, "--state-dir", b.state, "--admin-addr", "0.0.0.0:0"}
	if code := execute(t.Context(), args, &stdout, &stderr, b.env); code != 2 {
		t.Errorf("exit code %d without a token", code)
	}
	b.expect(stderr.String(), "--admin-token-file", "--views=off")

	secret := filepath.Join(t.TempDir(), "token")
	const token = "a-token-of-more-than-16-bytes"
	if err := os.WriteFile(secret, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state, "--admin-addr", "127.0.0.1:0", "--admin-token-file", secret)
	defer stop()
	if _, _, err := net.SplitHostPort(address); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for path, want := range map[string]int{"/livez": 200, "/v1/keys": 401, "/kafkagrpc.views.v1.Views/List": 401} {
		response, err := client.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, response.StatusCode, want)
		}
	}
	_, notes := b.keys(address, 1, "list")
	b.expect(notes, "--admin-token-file")
	b.produce(call("a-1"))
	b.await(address, "a-1", "list", "--admin-token-file", secret)
}
