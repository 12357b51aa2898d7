package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/internal/admin"
)

// patience is how long a test waits for an event that must come.
const patience = 30 * time.Second

// serve runs a server until the end of the test, or until stop.
func serve(t *testing.T, o admin.Options) (s *admin.Server, stop func()) {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	s, err := admin.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	var stopped bool
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// get asks on a connection of its own, with the version of HTTP that is asked for.
func get(t *testing.T, s *admin.Server, path string, version int) (status int, body string) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetUnencryptedHTTP2(version == 2)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.ProtoMajor != version {
		t.Fatalf("HTTP/%d answered, not HTTP/%d", response.ProtoMajor, version)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

type part struct {
	Name   string
	Ready  bool
	Reason string
	Note   string
}

type readiness struct {
	Ready bool
	Parts []part
}

func ready(t *testing.T, s *admin.Server) (int, readiness) {
	t.Helper()
	status, body := get(t, s, "/readyz", 1)
	var r readiness
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return status, r
}

func TestReadyTellsTheNoteOfAPartThatIsReady(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	note := func() string { return "topic b is left out" }
	s.AddPart(admin.Part{Name: "processor", Check: func(context.Context) error { return nil }, Note: note})
	status, got := ready(t, s)
	want := readiness{Ready: true, Parts: []part{{Name: "processor", Ready: true, Note: note()}}}
	if status != http.StatusOK || !cmp.Equal(got, want) {
		t.Errorf("status %d, %s", status, cmp.Diff(want, got))
	}
}

// Whoever says too much, or too little for too long, is not waited for.
func TestHeadersHaveBounds(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	for name, test := range map[string]struct{ request, want string }{
		"too much":   {"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 128<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		"too little": {"GET /livez HTTP/1.1\r\nHost: loc", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte(test.request)); err != nil {
				t.Fatal(err)
			}
			// What was not read makes the end a reset.
			answer, err := io.ReadAll(c)
			if errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasPrefix(string(answer), test.want) {
				t.Errorf("%v: %.100s", err, answer)
			}
		})
	}
}

func TestReadyNamesThePartThatIsNot(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	var broken atomic.Pointer[string]
	s.AddPart(admin.Part{Name: "kafka", Check: func(context.Context) error { return nil }})
	s.AddPart(admin.Part{Name: "processor", Check: func(context.Context) error {
		if why := broken.Load(); why != nil {
			return errors.New(*why)
		}
		return nil
	}})
	why := "recovering 3 partitions"
	broken.Store(&why)
	status, got := ready(t, s)
	want := readiness{Parts: []part{{Name: "kafka", Ready: true}, {Name: "processor", Reason: why}}}
	if status != http.StatusServiceUnavailable || !cmp.Equal(got, want) {
		t.Errorf("status %d, %s", status, cmp.Diff(want, got))
	}
	broken.Store(nil)
	status, got = ready(t, s)
	want = readiness{Ready: true, Parts: []part{{Name: "kafka", Ready: true}, {Name: "processor", Ready: true}}}
	if status != http.StatusOK || !cmp.Equal(got, want) {
		t.Errorf("status %d, %s", status, cmp.Diff(want, got))
	}
}

// A part that hangs is not ready; it holds up neither the answer about the others nor the next one who asks.
func TestPartThatHangsIsNotReady(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	s.AddPart(admin.Part{Name: "hangs", Check: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	s.AddPart(admin.Part{Name: "works", Check: func(context.Context) error { return nil }})
	for range 2 {
		status, got := ready(t, s)
		if status != http.StatusServiceUnavailable || len(got.Parts) != 2 || got.Parts[0].Ready || !got.Parts[1].Ready {
			t.Errorf("status %d, %+v", status, got)
		}
	}
}

// Also one that does not end with its context, as a disk that hangs.
func TestPartThatDoesNotEndIsNotReady(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	hangs, asked := make(chan struct{}), make(chan struct{}, 1)
	t.Cleanup(func() { close(hangs) }) // the server waits for it
	s.AddPart(admin.Part{Name: "hangs", Check: func(context.Context) error {
		asked <- struct{}{} // once: else it would wait here
		<-hangs
		return nil
	}})
	for range 2 {
		if status, got := ready(t, s); status != http.StatusServiceUnavailable || !strings.Contains(got.Parts[0].Reason, "no answer within") {
			t.Errorf("status %d, %+v", status, got)
		}
	}
}

// An answer that nobody waited for is not that of the next one who asks.
func TestCheckOfOneWhoHasGoneIsNotRemembered(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	begun, ended := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	s.AddPart(admin.Part{Name: "kafka", MaxAge: time.Hour, Check: func(ctx context.Context) error {
		if asked.Add(1) > 1 {
			return nil
		}
		close(begun)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}})
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr().String()+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-begun
		leave()
	}()
	if response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request); err == nil {
		_ = response.Body.Close()
		t.Fatal("it was answered")
	}
	<-ended
	if status, got := ready(t, s); status != http.StatusOK || asked.Load() != 2 {
		t.Errorf("status %d, %+v, asked %d times", status, got, asked.Load())
	}
}

// What costs something is asked once for all who ask within its age.
func TestCheckIsAskedOncePerAge(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	var asked atomic.Int32
	s.AddPart(admin.Part{Name: "kafka", MaxAge: time.Hour, Check: func(context.Context) error {
		asked.Add(1)
		return errors.New("no broker answers")
	}})
	for range 5 {
		if status, _ := ready(t, s); status != http.StatusServiceUnavailable {
			t.Errorf("status %d", status)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestBothVersionsOfHTTP(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	s.Handle("GET /hello", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	for _, version := range []int{1, 2} {
		for path, want := range map[string]string{"/livez": "ok\n", "/hello": "hello"} {
			if status, body := get(t, s, path, version); status != http.StatusOK || body != want {
				t.Errorf("HTTP/%d %s: %d %q", version, path, status, body)
			}
		}
		if status, _ := get(t, s, "/nothing", version); status != http.StatusNotFound {
			t.Errorf("HTTP/%d: unknown path: %d", version, status)
		}
	}
}

// Whoever guards the server, probes need no key.
func TestGuardStandsBeforeAllButTheProbes(t *testing.T) {
	t.Parallel()
	locked := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) })
	}
	for name, o := range map[string]admin.Options{
		"guarded":                 {Guard: locked},
		"all addresses, no guard": {Addr: ":0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := serve(t, o)
			s.Handle("/", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the guard let a request through") }))
			for path, open := range map[string]bool{"/livez": true, "/readyz": true, "/": false, "/metrics": false, "/livez/x": false} {
				if status, _ := get(t, s, path, 1); (status == http.StatusOK) != open {
					t.Errorf("%s: %d", path, status)
				}
			}
		})
	}
}

// An answer that has no end does not hold up the stop.
func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	s, stop := serve(t, admin.Options{})
	begun, ended := make(chan struct{}), make(chan struct{})
	s.Handle("GET /stream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-r.Context().Done()
	}))
	done := make(chan int, 1)
	go func() {
		status, _ := get(t, s, "/stream", 1)
		done <- status
	}()
	<-begun
	stop()
	<-ended
	if status := <-done; status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

func TestAddressThatIsTakenNamesTheFlag(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, admin.Options{})
	for _, addr := range []string{s.Addr().String(), "127.0.0.1:none"} {
		other, err := admin.Listen(admin.Options{Addr: addr})
		if err == nil {
			t.Fatal("it was opened", other.Close())
		}
		if !strings.Contains(err.Error(), "--admin-addr") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
