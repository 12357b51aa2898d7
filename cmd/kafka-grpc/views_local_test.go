package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each of two instances answers for all keys, of which it has but a part; and for all of them alone when the other one is gone.
func TestLocalViewsAskTheInstanceThatWorksOnTheKey(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("a-token-of-more-than-16-bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	token := []string{"--admin-token-file", secret}
	run := func(listen string) (string, func()) {
		return b.running("run", "--listen", listen, "--state-dir", t.TempDir(), "--views", "local", token[0], token[1])
	}
	one, stopOne := run("127.0.0.1")
	other, stopOther := run("127.0.0.2") // as two cannot listen on the same ports
	defer stopOther()
	var keys []string
	for n := range 8 {
		key := fmt.Sprintf("key-%d", n)
		keys = append(keys, key)
		b.produce(call(key))
	}
	for _, at := range []string{one, other} {
		for _, key := range keys {
			b.await(at, "status         OK (0)", append([]string{"get", key}, token...)...)
		}
		_, notes := b.keys(at, 1, append([]string{"get", "never"}, token...)...)
		b.expect(notes, "never seen")
		_, notes = b.keys(at, 1, append([]string{"list"}, token...)...)
		b.expect(notes, "--views=all")
	}
	stopOne()
	for _, key := range keys {
		b.await(other, "status         OK (0)", append([]string{"get", key}, token...)...)
	}
}

func TestLocalViewsNeedAnAddress(t *testing.T) {
	t.Parallel()
	seed := seedFile(t)
	for _, flags := range [][]string{{"--admin-addr", ":0"}, {"--admin-addr", "0.0.0.0:0"}, {"--advertise-addr", "nowhere"}, {"--advertise-addr", "10.0.0.7:0"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var stdout, stderr bytes.Buffer
		args := append([]string{"run", "-c", seed, "--brokers", "127.0.0.1:1", "--state-dir", t.TempDir(), "--views", "local"}, flags...)
		if code := execute(ctx, args, &stdout, &stderr, environment()); code != 2 || !strings.Contains(stderr.String(), "--advertise-addr") {
			t.Errorf("%q: exit code %d: %s", flags, code, &stderr)
		}
		cancel()
	}
}
