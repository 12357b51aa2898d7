package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"kafkagrpc/cmd/kafka-grpc/app"
)

// reloadedFile answers calls by itself, on a port.
const reloadedFile = `name: example
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: %s}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0:
    type: grpc
    kind: server
    routes:
      - when: [{method: %s/*}]
        exit: echo0
  echo0: {type: echo, kind: server}
`

// A program is told of changes in many ways, and by too many. Not parallel: a SIGHUP reaches all that run.
func TestReloadsOfRun(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP) // those that come when the program has stopped end nothing
	defer signal.Stop(signals)
	port, other := freePort(t), freePort(t)
	for _, mode := range []string{"on", "off"} {
		t.Run("--watch-config="+mode, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "zilla.yaml")
			put := func(text string) {
				t.Helper()
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			hangup := func() {
				t.Helper()
				if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
			}
			put(fmt.Sprintf(reloadedFile, port, "a.First"))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stderr := newOutput()
			code := make(chan int, 1)
			go func() {
				code <- execute(ctx, []string{"run", "-c", path, "--admin-addr", "off", "--watch-config", mode}, newOutput(), stderr, func(string) (string, bool) { return "", false })
			}()
			stderr.await(t, "ready")
			put(fmt.Sprintf(reloadedFile, port, "a.Second"))
			if mode == "off" {
				hangup()
			}
			stderr.await(t, "the configuration is reloaded")
			put(strings.Replace(fmt.Sprintf(reloadedFile, port, "a.Third"), "exit: echo0", "exit: echo1\n        guarded: {g: []}", 1))
			if mode == "off" {
				hangup()
			}
			stderr.await(t, "zilla.yaml:11:19") // with all its mistakes
			stderr.await(t, "zilla.yaml:10:15")
			for range 1000 {
				hangup()
			}
			put(fmt.Sprintf(reloadedFile, other, "a.Third"))
			hangup()
			stderr.await(t, "`options.port` of binding `tcp0` needs a restart")
			put(fmt.Sprintf(reloadedFile, port, "a.Third"))
			hangup()
			stderr.awaitCount(t, "the configuration is reloaded", 2)
			// It stops while it is told of more.
			stopped := make(chan int, 1)
			cancel()
			for n := 0; len(stopped) == 0; n++ {
				put(fmt.Sprintf(reloadedFile, port, fmt.Sprint("a.Next", n)))
				hangup()
				select {
				case c := <-code:
					stopped <- c
				default:
				}
			}
			if c := <-stopped; c != 0 {
				t.Errorf("exit code %d: %s", c, stderr)
			}
		})
	}
}

// What a schema registry has anew is taken into use by itself, also where the file is not watched.
func TestRunTakesNewerProtos(t *testing.T) {
	t.Parallel()
	registry := srfake.New()
	defer registry.Close()
	version := func(n int, method string) {
		registry.SeedSchema("first", n, n, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; package a; message M {} service First { rpc ` + method + `(M) returns (M); }`})
	}
	version(1, "One")
	text := strings.Replace(fmt.Sprintf(reloadedFile, freePort(t), "a.First"), "bindings:", "catalogs: {registry: {type: schema-registry, options: {url: "+registry.URL()+", max-age: 1}}}\nbindings:", 1)
	text = strings.Replace(text, "    routes:", "    catalog: {registry: [{subject: first}]}\n    routes:", 1)
	path := filepath.Join(t.TempDir(), "zilla.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", path, "--admin-addr", "off", "--watch-config", "off"}, newOutput(), stderr, func(string) (string, bool) { return "", false })
	}()
	stderr.await(t, "ready")
	version(2, "Two")
	stderr.await(t, `"the configuration is reloaded","changed":"the protos"`)
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}

// A reload that waits for a schema registry is made when it is there again, and the log says once what it waits for.
func TestReloadWaitsForARegistry(t *testing.T) {
	t.Parallel()
	registry := srfake.New()
	defer registry.Close()
	registry.SeedSchema("first", 1, 1, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; package a; message M {} service First { rpc One(M) returns (M); }`})
	text := strings.Replace(fmt.Sprintf(reloadedFile, "1", "a.First"), "bindings:", "catalogs: {registry: {type: schema-registry, options: {url: "+registry.URL()+"}}}\nbindings:", 1)
	text = strings.Replace(text, "    routes:", "    catalog: {registry: [{subject: first}]}\n    routes:", 1)
	path := filepath.Join(t.TempDir(), "zilla.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(strings.Replace(text, "port: 1", "port: "+freePort(t), 1))
	log := newOutput()
	source := configSource{file: fileFlags{config: path}, env: os.LookupEnv, log: newLog(log, slog.LevelInfo)}
	source.file.ask(t.Context(), 0, nil)
	top, err := source.load()
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.Start(t.Context(), app.Config{Topology: top, Log: source.log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	}()
	reloads := make(reloadRequests, 1)
	defer source.follow(t.Context(), a, false, reloads)()

	var asked atomic.Int32
	registry.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) > 3 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	put(strings.Replace(strings.Replace(text, "port: 1", fmt.Sprint("port: ", top.Listeners[0].Port), 1), "a.First/*", "a.First/One", 1))
	reloads.request()
	log.await(t, `"the configuration is reloaded","changed"`)
	if n := strings.Count(log.String(), "and it is tried again"); n != 1 {
		t.Errorf("told %d times: %s", n, log)
	}
}

func (o *output) awaitCount(t *testing.T, text string, n int) {
	t.Helper()
	deadline := time.After(patience)
	for strings.Count(o.String(), text) < n {
		select {
		case <-o.changed:
		case <-deadline:
			t.Fatalf("no %d times %q within %s in: %s", n, text, patience, o)
		}
	}
}

func TestWatchConfigIsOnOrOff(t *testing.T) {
	t.Parallel()
	stderr := newOutput()
	if c := execute(t.Context(), []string{"run", "-c", "x", "--watch-config", "maybe"}, newOutput(), stderr, os.LookupEnv); c != exitUsage || !strings.Contains(stderr.String(), "it is on or off") {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}
