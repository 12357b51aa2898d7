package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestProfiles(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	const token = "a-token-of-more-than-16-bytes"
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	get := func(address, path, token string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	profiles := []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine", "/debug/pprof/profile?seconds=1"}

	address, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state, "--admin-token-file", secret)
	for _, path := range profiles {
		if code := get(address, path, token); code != http.StatusNotFound {
			t.Errorf("%s without --pprof: %d, want 404", path, code)
		}
	}
	stop()

	address, stop = b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state, "--admin-token-file", secret, "--pprof")
	defer stop()
	for _, path := range profiles {
		if code := get(address, path, token); code != http.StatusOK {
			t.Errorf("%s: %d, want 200", path, code)
		}
		if code := get(address, path, ""); code != http.StatusUnauthorized {
			t.Errorf("%s without the token: %d, want 401", path, code)
		}
	}
	if code := get(address, "/debug/pprof/cmdline", token); code != http.StatusNotFound {
		t.Errorf("the command line: %d, want 404", code)
	}
}
