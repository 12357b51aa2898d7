package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kafkagrpc/wire"
)

// The seed's file, unchanged, answers grpcurl on both ports; the records on both topics are the contract's.
func TestSeedAnswersGrpcurl(t *testing.T) {
	w := newWorld(t)
	run := w.run("--create-topics=4")

	for _, call := range []struct {
		name, address string
		flags         []string
	}{
		{"plaintext", plainAddress, []string{"-plaintext"}},
		{"TLS", tlsAddress, []string{"-insecure", "-authority", "localhost"}},
	} {
		stdout, stderr, code := w.grpcurl(call.address, append(call.flags, "-d", `{"message":"hi"}`)...)
		if code != 0 || strings.Join(strings.Fields(stdout), "") != `{"message":"hi"}` {
			t.Errorf("%s: exit code %d, stdout %s, stderr %s", call.name, code, stdout, stderr)
		}
	}

	// One more, with everything that shows in the records.
	stdout, stderr, code := w.grpcurl(plainAddress, "-plaintext", "-v", "-d", `{"message":"hi"}`,
		"-H", "idempotency-key: k-1", "-H", "tag: a", "-H", "tag: b", "-H", "blob-bin: AP8", "-H", "authorization: secret")
	if code != 0 || !strings.Contains(stdout, "served-by: echo") || !strings.Contains(stdout, "spent: 1") || !strings.Contains(stdout, "proof-bin: AP8") {
		t.Errorf("exit code %d, stdout %s, stderr %s", code, stdout, stderr)
	}
	if n := w.echo.count("call k-1 "); n != 1 {
		t.Errorf("the service got %d calls, not one", n)
	}

	const id = "k-1-132e6a3c3cd99bf490609dd2718acc8a" // a vector of the contract
	message := []byte("\x0a\x02hi")
	var call string
	requests := of(w.records(requestTopic, 6), id)
	if len(requests) != 2 {
		t.Fatalf("the call has %d records in %s, not a message and an end", len(requests), requestTopic)
	}
	for i, r := range requests {
		call = header(r, "grpc:call")
		expectRecord(t, r, id, [][]byte{message, nil}[i], []wire.Header{
			{Name: "zilla:service", Value: []byte(echo)},
			{Name: "zilla:method", Value: []byte("UnaryEcho")},
			{Name: "zilla:reply-to", Value: []byte(replyTopic)},
			{Name: "zilla:correlation-id", Value: []byte(id)},
			{Name: "meta:blob-bin", Value: []byte("AP8")},
			{Name: "meta:idempotency-key", Value: []byte("k-1")},
			{Name: "meta:tag", Value: []byte("a")},
			{Name: "meta:tag", Value: []byte("b")},
			{Name: "grpc:call", Value: []byte(call)},
			{Name: "grpc:deadline", Value: []byte(header(r, "grpc:deadline"))},
			{Name: "grpc:message", Value: []byte{'0' + byte(i)}},
		})
		if !regexp.MustCompile(`^[0-9]{13}$`).MatchString(header(r, "grpc:deadline")) {
			t.Errorf("grpc:deadline is %q, not Unix milliseconds", header(r, "grpc:deadline"))
		}
		if call == "" || call != header(requests[0], "grpc:call") {
			t.Errorf("grpc:call is %q and %q", call, header(requests[0], "grpc:call"))
		}
	}

	replies := of(w.records(replyTopic, 6), id)
	if len(replies) != 2 {
		t.Fatalf("the reply has %d records in %s, not a message and an end", len(replies), replyTopic)
	}
	expectRecord(t, replies[0], id, message, []wire.Header{
		{Name: "zilla:correlation-id", Value: []byte(id)},
		{Name: "meta:served-by", Value: []byte("echo")},
		{Name: "grpc:call", Value: []byte(call)},
		{Name: "grpc:message", Value: []byte("0")},
	})
	expectRecord(t, replies[1], id, nil, []wire.Header{
		{Name: "zilla:correlation-id", Value: []byte(id)},
		{Name: "zilla:status", Value: []byte("0")},
		{Name: "trailer:proof-bin", Value: []byte("AP8")},
		{Name: "trailer:spent", Value: []byte("1")},
		{Name: "grpc:call", Value: []byte(call)},
		{Name: "grpc:message", Value: []byte("1")},
	})

	run.signal(syscall.SIGTERM)
	if code := run.wait(); code != 0 {
		t.Errorf("an orderly stop ends with exit code %d", code)
	}
	if strings.Contains(run.output(), "secret") || strings.Contains(run.output(), password) {
		t.Error("a secret is in the output")
	}
}

// of are the records with a key, in order.
func of(records []wire.Record, key string) (out []wire.Record) {
	for _, r := range records {
		if string(r.Key) == key {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b wire.Record) int { return int(a.Offset - b.Offset) })
	return out
}

func header(r wire.Record, name string) string {
	for _, h := range r.Headers {
		if h.Name == name {
			return string(h.Value)
		}
	}
	return ""
}

// expectRecord compares key, partition, value (null is not empty) and headers, in order.
func expectRecord(t *testing.T, r wire.Record, key string, value []byte, headers []wire.Header) {
	t.Helper()
	if string(r.Key) != key || r.Partition != wire.Partition([]byte(key), 4) {
		t.Errorf("key %q in partition %d, not %q in %d", r.Key, r.Partition, key, wire.Partition([]byte(key), 4))
	}
	if !bytes.Equal(r.Value, value) || (r.Value == nil) != (value == nil) {
		t.Errorf("value %q, not %q", r.Value, value)
	}
	if got, want := text(r.Headers), text(headers); got != want {
		t.Errorf("headers\n%s\nnot\n%s", got, want)
	}
}

func text(headers []wire.Header) string {
	var b strings.Builder
	for _, h := range headers {
		fmt.Fprintf(&b, "  %s = %s\n", h.Name, h.Value)
	}
	return b.String()
}

// Without --create-topics a missing topic is an error at start that names it.
func TestMissingTopicsAreNamed(t *testing.T) {
	w := newWorld(t)
	_, stderr, code := output(t, w.command("run", "-c", filepath.Join(w.dir, "zilla.yaml"), "--listen", "127.0.0.1", "--state-dir", w.state))
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{`"echo-requests"`, `"echo-responses"`, "--create-topics"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %s in: %s", want, stderr)
		}
	}
}
