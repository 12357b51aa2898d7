package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"kafkagrpc/internal/disktest"
)

// An instance whose disk is full says so, also before anything is written, and is ready again by itself when there is space.
func TestReadyzOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := disktest.New(t, "16")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := newOutput()
	code := make(chan int, 1)
	args := []string{"run", "--embedded-kafka", "-c", "../../e2e/chaos/testdata/zilla.yaml", "--state-dir", disk.Dir}
	go func() {
		code <- execute(ctx, args, newOutput(), stderr, environment("SERVICE_HOST", "127.0.0.1", "SERVICE_PORT", "1"))
	}()
	url := adminAddr(t, stderr)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually := func(status int, reason string) {
		t.Helper()
		deadline := time.Now().Add(patience)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ; ; <-tick.C {
			response, err := client.Get(url + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Parts []struct{ Name, Reason string }
			}
			err = json.NewDecoder(response.Body).Decode(&got)
			_ = response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range got.Parts {
				if response.StatusCode == status && part.Name == "state folder" && strings.Contains(part.Reason, reason) {
					return
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s %+v", response.Status, got)
			}
		}
	}
	eventually(http.StatusOK, "")
	disk.Fill()
	eventually(http.StatusServiceUnavailable, "the folder "+disk.Dir+" cannot be used: ")
	disk.Free()
	eventually(http.StatusOK, "")
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}
