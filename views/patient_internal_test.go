package views

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A stream that is silent is not ended by any deadline; one whose client takes nothing is.
func TestDeadlinesOfStreams(t *testing.T) {
	t.Parallel()
	const most = 200 * time.Millisecond
	stuck := make(chan error, 4)
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			stuck <- err
			return
		}
		if r.URL.Path == "/silent" {
			for range 2 {
				fmt.Fprintln(w, "here")
				_ = http.NewResponseController(w).Flush()
				select { // longer than every deadline
				case <-time.After(3 * most):
				case <-r.Context().Done():
				}
			}
			return
		}
		text := []byte(strings.Repeat("x", 64<<10))
		for {
			_, err := w.Write(text)
			if err == nil {
				err = http.NewResponseController(w).Flush()
			}
			if err != nil {
				stuck <- err
				return
			}
		}
	})
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(patient(next, most))
			server.Config.ReadTimeout, server.Config.WriteTimeout = most, most
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetHTTP1(true)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			server.Start()
			defer server.Close()
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetHTTP1(version == 1)
			transport.Protocols.SetUnencryptedHTTP2(version == 2)
			defer transport.CloseIdleConnections()
			request := func(path string, body io.Reader) (*http.Response, error) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				t.Cleanup(cancel)
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, body)
				if err != nil {
					t.Fatal(err)
				}
				return transport.RoundTrip(r)
			}
			for _, body := range []io.Reader{nil, strings.NewReader("what is asked")} {
				silent, err := request("/silent", body)
				if err != nil {
					t.Fatal(err)
				}
				defer silent.Body.Close()
				lines, n := bufio.NewScanner(silent.Body), 0
				for lines.Scan() {
					n++
				}
				if err := lines.Err(); err != nil || n != 2 {
					t.Errorf("%d lines of a silent stream, %v", n, err)
				}
			}
			slow, err := request("/slow", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer slow.Body.Close()
			ended := func(who string) {
				select {
				case <-stuck:
				case <-time.After(time.Minute):
					t.Errorf("the one who %s is still served", who)
				}
			}
			ended("takes nothing")
			rest, begin := io.Pipe()
			defer begin.Close()
			go func() { _, _ = begin.Write([]byte("what ")) }() // until it was read
			late, err := request("/late", rest)
			if err == nil { // HTTP/1 ends the connection
				defer late.Body.Close()
			}
			ended("does not say all")
		})
	}
}
