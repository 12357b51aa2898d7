package app_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
)

// The choice of a port may be left to the system.
func TestFlowNamesTheChosenPorts(t *testing.T) {
	t.Parallel()
	a := start(t, seed(t))
	code, text := get(t, a.AdminURL()+"/v1/flow")
	var flow struct {
		Listeners []struct {
			Host string `json:"host"`
			Port int    `json:"port"`
		} `json:"listeners"`
	}
	if err := json.Unmarshal([]byte(text), &flow); err != nil || code != http.StatusOK {
		t.Fatal(code, text, err)
	}
	if len(flow.Listeners) != 2 {
		t.Fatalf("%d listeners, want 2", len(flow.Listeners))
	}
	for i, l := range flow.Listeners {
		if got, want := net.JoinHostPort(l.Host, fmt.Sprint(l.Port)), a.Addrs()[i].String(); got != want {
			t.Errorf("listener %d is shown as %s, and listens on %s", i, got, want)
		}
	}
}
