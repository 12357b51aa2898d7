package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"kafkagrpc/internal/embedded"
)

// Either of two instances does what is asked for with all keys that wait: it asks the one that works on them.
func TestKeysThatWait(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"local", "all"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			keysThatWait(t, mode)
		})
	}
}

func keysThatWait(t *testing.T, mode string) {
	b := newLettersBench(t)
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	const options = "    entry: north_kafka_cache_client\n    options:\n"
	text = bytes.Replace(text, []byte(options), []byte(options+"      processing: {retry: {initial: 1h, max: 1h, max-elapsed: 100h, park-after: 1ms}, breaker: {failures: 1000}}\n"), 1)
	if err := os.WriteFile(b.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t) // where nobody serves
	b.env = environment("ECHO_SERVER_HOST", "127.0.0.1", "ECHO_SERVER_PORT", port)
	one, stopOne := b.running("run", "--listen", "127.0.0.1", "--state-dir", t.TempDir(), "--views", mode)
	defer stopOne()
	other, stopOther := b.running("run", "--listen", "127.0.0.2", "--state-dir", t.TempDir(), "--views", mode)
	defer stopOther()
	keys := make([]string, 8)
	for n := range keys {
		keys[n] = fmt.Sprintf("key-%d", n)
		b.produce(call(keys[n]))
	}
	for _, at := range []string{one, other} {
		for _, key := range keys {
			out := b.await(at, "state          waiting", "get", key)
			b.expect(out, "status         UNAVAILABLE (14)", "waiting        1", "next try ", "retried until ", "tries          1")
		}
	}
	b.await(other, keys[7], "list", "--state", "waiting")

	_, notes := b.keys(one, 2, "retry")
	b.expect(notes, "--state waiting")
	_, notes = b.keys(one, 2, "retry", keys[0], "--state", "waiting")
	b.expect(notes, "give keys, or filters")
	out, _ := b.keys(one, 1, "retry", "never", keys[0])
	b.expect(out, "never: no request of the key waits", keys[0]+": due now")
	out, _ = b.keys(other, 0, "give-up", keys[1], keys[2])
	b.expect(out, keys[1]+": given up", keys[2]+": given up")
	for _, key := range keys[1:3] {
		b.await(one, "state          retryable", "get", key)
	}
	out, _ = b.keys(one, 1, "give-up", keys[1])
	b.expect(out, "no request of the key waits")
	b.awaitLetters(2)
	letters, _ := b.outputs(0, "list", "--reason", "given_up")
	b.expect(letters, "given up by an operator: Unavailable ", keys[1], keys[2])

	// A page of another origin cannot do it, and the plain path takes JSON alone.
	for _, test := range []struct{ kind, origin, want string }{
		{"application/json", "http://elsewhere", "another origin"}, {"text/plain", "", "the body is JSON"}, {"application/json", "", `"done":true`},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+other+"/v1/keys:retry", strings.NewReader(fmt.Sprintf(`{"keys": [{"key": %q}]}`, keys[3])))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", test.kind)
		if test.origin != "" {
			request.Header.Set("Origin", test.origin)
			request.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || !strings.Contains(strings.ReplaceAll(string(body), " ", ""), strings.ReplaceAll(test.want, " ", "")) {
			t.Errorf("%v: %s, %v", test, body, err)
		}
		_ = response.Body.Close()
	}

	echo, err := embedded.StartEcho("127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := echo.Close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, func() (string, bool) { // connections are tried again a little later
		out, _ := b.keys(other, 0, "retry", "--state", "waiting", "--method", "UnaryEcho")
		b.expect(out, " keys are due now")
		out, _ = b.keys(one, 0, "list", "--status", "OK")
		return out, strings.Count(out, " final ") == len(keys)-2
	})
}
