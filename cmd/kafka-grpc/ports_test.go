package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"kafkagrpc/internal/embedded"
)

// The demo leaves the choice of a port to the system where the one of its file is taken.
func TestFlowNamesTheChosenPorts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	top, err := demoTopology(dir, broker, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	for i := range top.Listeners {
		top.Listeners[i].Port = 0
	}
	a, err := startApp(t.Context(), top, appOptions{
		stateDir: filepath.Join(dir, "state"), createTopics: 1, adminAddr: "127.0.0.1:0", views: viewOptions{mode: "all"}, log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get(a.admin.URL() + "/v1/flow")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var flow struct {
		Listeners []struct {
			Host string `json:"host"`
			Port int    `json:"port"`
		} `json:"listeners"`
	}
	if err := json.NewDecoder(response.Body).Decode(&flow); err != nil {
		t.Fatal(err)
	}
	if len(flow.Listeners) != 2 {
		t.Fatalf("%d listeners, want 2", len(flow.Listeners))
	}
	for i, l := range flow.Listeners {
		if got, want := net.JoinHostPort(l.Host, fmt.Sprint(l.Port)), a.listeners[i].Addr().String(); got != want {
			t.Errorf("listener %d is shown as %s, and listens on %s", i, got, want)
		}
	}
}
