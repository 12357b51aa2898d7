package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/readyz" && !ready:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"status":"recovering: 3 of 8 partitions"}` + "\n"))
		case r.URL.Path == "/readyz" || r.URL.Path == "/livez":
			_, _ = w.Write([]byte(r.URL.Path + " is well\n"))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)

	nobody := net.JoinHostPort("127.0.0.1", freePort(t))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	check := func(want int, text string, env func(string) (string, bool), args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		code := execute(context.Background(), append([]string{"health"}, args...), &stdout, &stderr, env)
		if said := stdout.String() + stderr.String(); code != want || !strings.Contains(said, text) {
			t.Errorf("health %v: exit code %d, %q; want %d and %q", args, code, said, want, text)
		}
	}
	check(exitOK, "/readyz is well", environment(), "--admin-addr", address)
	check(exitOK, "/livez is well", environment(), "--admin-addr", address, "--live")
	// As in a container, where run has the same variable.
	for _, all := range []string{":", "0.0.0.0:"} {
		check(exitOK, "/readyz is well", environment("KAFKA_GRPC_ADMIN_ADDR", all+port))
	}
	ready = false
	check(exitFailure, "503 Service Unavailable: {\"status\":\"recovering: 3 of 8 partitions\"}", environment(), "--admin-addr", address)
	check(exitOK, "/livez is well", environment(), "--admin-addr", address, "--live")
	check(exitFailure, "connection refused", environment(), "--admin-addr", nobody)
	check(exitFailure, "no answer within 50ms", environment(), "--admin-addr", silent.Addr().String(), "--timeout", "50ms")
	check(exitUsage, "HOST:PORT", environment(), "--admin-addr", "off")
	check(exitUsage, "HOST:PORT", environment(), "--admin-addr", "127.0.0.1:0")
	check(exitUsage, "--timeout", environment(), "--admin-addr", address, "--timeout", "0s")
	check(exitUsage, "unexpected argument", environment(), "now")
}
