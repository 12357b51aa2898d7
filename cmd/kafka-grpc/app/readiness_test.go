package app_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/disktest"
)

// readyz is what an app says of its parts.
func readyz(t *testing.T, a *app.App) (status int, parts map[string]string) {
	t.Helper()
	status, text := get(t, a.AdminURL()+"/readyz")
	var got struct {
		Parts []struct{ Name, Reason string }
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err, text)
	}
	parts = map[string]string{}
	for _, p := range got.Parts {
		parts[p.Name] = p.Reason
	}
	return status, parts
}

// An instance whose disk is full says so, also before anything is written, and is ready again by itself when there is space.
func TestReadyzOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := disktest.New(t, "16")
	c := seed(t)
	c.StateDir = disk.Dir
	a := start(t, c)
	eventually := func(status int, reason string) {
		t.Helper()
		deadline := time.Now().Add(patience)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ; ; <-tick.C {
			got, parts := readyz(t, a)
			if said, ok := parts["state folder"]; ok && got == status && strings.Contains(said, reason) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(got, parts)
			}
		}
	}
	eventually(http.StatusOK, "")
	disk.Fill()
	eventually(http.StatusServiceUnavailable, "the folder "+disk.Dir+" cannot be used: ")
	disk.Free()
	eventually(http.StatusOK, "")
}
