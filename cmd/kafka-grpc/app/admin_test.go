package app_test

import (
	"net/http"
	"strings"
	"testing"

	"kafkagrpc/cmd/kafka-grpc/app"
)

// Without a token or certificates, other machines are shown probes alone, whatever else is configured.
func TestOtherMachinesAreShownProbesAlone(t *testing.T) {
	t.Parallel()
	c := seed(t)
	c.Admin = &app.Admin{Addr: ":0", Profiles: true}
	_, port, _ := strings.Cut(start(t, c).AdminURL(), "]:")
	for path, want := range map[string]int{
		"/livez": http.StatusOK, "/readyz": http.StatusOK, "/": http.StatusForbidden, "/metrics": http.StatusForbidden, "/v1/keys": http.StatusForbidden,
		"/v1/dead-letters": http.StatusForbidden, "/debug/pprof/": http.StatusForbidden,
	} {
		if code, text := get(t, "http://127.0.0.1:"+port+path); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, text)
		}
	}
}

// An app of views alone is ready when its copies have caught up, and has no part that works.
func TestViewsAlone(t *testing.T) {
	t.Parallel()
	c := seed(t)
	start(t, c) // makes the topics
	c.Views.Mode, c.StateDir = app.Only, t.TempDir()
	a := start(t, c)
	status, parts := readyz(t, a)
	for name := range parts {
		if strings.HasPrefix(name, "processor") {
			t.Error(name)
		}
	}
	if _, view := parts["view example-west_kafka_grpc_remote_server"]; !view || status != http.StatusOK || len(a.Processors())+len(a.Addrs()) != 0 {
		t.Errorf("%d %v", status, parts)
	}
}
