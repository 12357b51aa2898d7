package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"kafkagrpc/internal/issuertest"
)

// guard makes the seed's file take tokens of an issuer, with a role, and pass on who calls.
func (w *world) guard(i *issuertest.Issuer) {
	w.t.Helper()
	path := filepath.Join(w.dir, "zilla.yaml")
	file, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	text := string(file)
	for _, change := range []struct{ from, to string }{
		{"\nbindings:\n", fmt.Sprintf("\nguards:\n  people:\n    type: jwt\n    options: {issuer: %q, audience: %s}\nbindings:\n", i.URL, issuertest.Audience)},
		{"      access-control:\n", "      authorization: {people: {credentials: {headers: {authorization: \"Bearer {credentials}\"}}}}\n      access-control:\n"},
		{"        exit: north_grpc_kafka_mapping\n", "        exit: north_grpc_kafka_mapping\n        guarded: {people: [echo]}\n"},
		{"          acks: leader_only\n          reply-to", "          acks: leader_only\n          overrides: {\"meta:user\": \"${guarded['people'].identity}\"}\n          reply-to"},
	} {
		if !strings.Contains(text, change.from) {
			w.t.Fatalf("the seed's file has no %q", change.from)
		}
		text = strings.Replace(text, change.from, change.to, 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// A generated client, which is told why it is kept out, and is let in when the issuer has signed its token, also with a key that was not there
// when the program started. Nothing of a call that is kept out is on Kafka.
func TestGuardedCalls(t *testing.T) {
	w := newWorld(t)
	issuer := issuertest.Start(t)
	w.guard(issuer)
	if out, errs, code := output(t, w.command("check", "--connect", "-c", filepath.Join(w.dir, "zilla.yaml"))); !strings.Contains(out, "1 keys: key-1") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	p := w.run("--create-topics=2")
	call := func(token string) string {
		t.Helper()
		args := []string{"-plaintext", "-d", `{"message":"hi"}`}
		if token != "" {
			args = append(args, "-H", "authorization: Bearer "+token)
		}
		stdout, stderr, _ := w.grpcurl(plainAddress, args...)
		return strings.Join(strings.Fields(stdout+stderr), " ")
	}
	good := func() string { return issuer.Token(map[string]any{"scope": "talk echo"}) }
	for _, tt := range []struct{ name, token, want string }{
		{"no token", "", "Code: Unauthenticated"},
		{"expired", issuer.Token(map[string]any{"scope": "echo", "exp": time.Now().Add(-time.Hour).Unix()}), "Code: Unauthenticated"},
		{"somebody else's key", issuertest.Sign(t, issuertest.NewKey(t, "key-1"), issuer.Claims(nil)), "Code: Unauthenticated"},
		{"not signed", issuertest.Forge(t, "none", "key-1", nil, issuer.Claims(nil)), "Code: Unauthenticated"},
		{"no role", issuer.Token(nil), "Code: PermissionDenied"},
	} {
		if got := call(tt.token); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
	if stdout, stderr, _ := output(t, exec.Command(binary(t, "grpcurl"), "-max-time", "30", "-plaintext", plainAddress, "list")); !strings.Contains(stderr, "guard people") {
		t.Errorf("reflection: %s%s", stdout, stderr)
	}
	if got := call(good()); got != `{ "message": "hi" }` {
		t.Errorf("with a token: %s", got)
	}
	issuer.Rotate()
	if got := call(good()); got != `{ "message": "hi" }` {
		t.Errorf("with a token of another key: %s", got)
	}
	ends, err := kadm.NewClient(w.client()).ListEndOffsets(t.Context(), requestTopic)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	ends.Each(func(o kadm.ListedOffset) { records += int(o.Offset) })
	if records != 4 { // a message and an end, twice
		t.Errorf("the request topic has %d records, want 4", records)
	}
	for _, r := range w.records(requestTopic, 4) {
		for _, h := range r.Headers {
			if h.Name == "meta:authorization" || h.Name == "meta:user" && string(h.Value) != "ann" {
				t.Errorf("%s: %s", h.Name, h.Value)
			}
		}
	}
	if strings.Contains(p.output(), "eyJ") {
		t.Error("a token is in the log")
	}
}
