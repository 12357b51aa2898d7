package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	reloads       = 200
	reloadedCalls = 500 // a second
)

// reloadStage is a running program whose configuration changes.
type reloadStage struct {
	*world
	run      *process
	client   caller
	services [2]*process
	ports    [2]string
	probes   int
	slowest  time.Duration // from a file that is written to a call that shows it
}

// edition is what a file says.
type edition struct {
	service int    // 0 or 1
	narrow  bool   // only some methods are routed
	timeout string // of the processing
	port    int    // of the listener
}

func (s *reloadStage) text(e edition) string {
	s.t.Helper()
	seed, err := os.ReadFile(filepath.Join(s.dir, "seed.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	topics := "grpc.examples.echo.Echo/*"
	if e.narrow {
		topics = "grpc.examples.echo.Echo/UnaryEcho"
	}
	text, _, _ := strings.Cut(string(seed), "telemetry:\n")
	for _, r := range [][2]string{
		{"        with:\n          scheme: http\n          authority: ${{env.ECHO_SERVER_HOST}}:${{env.ECHO_SERVER_PORT}}\n", ""},
		{"host: ${{env.ECHO_SERVER_HOST}}\n      port: ${{env.ECHO_SERVER_PORT}}", "host: 127.0.0.1\n      port: " + s.ports[e.service]},
		{"        - 7153\n", fmt.Sprintf("        - %d\n", e.port)}, {"port: 7153", fmt.Sprintf("port: %d", e.port)},
		{"    entry: north_kafka_cache_client\n    options:\n", "    entry: north_kafka_cache_client\n    options:\n      processing: {timeout: " + e.timeout + "}\n"},
		{
			"    routes:\n      - when:\n          - method: grpc.examples.echo.Echo/*\n        exit: north_grpc_kafka_mapping\n",
			"    routes:\n      - when:\n          - method: grpc.examples.echo.Echo/*\n            metadata: {way: direct}\n        exit: west_grpc_client\n" +
				"      - when:\n          - method: " + topics + "\n        exit: north_grpc_kafka_mapping\n",
		},
	} {
		if !strings.Contains(text, r[0]) {
			s.t.Fatalf("the seed has no %q", r[0])
		}
		text = strings.Replace(text, r[0], r[1], 1)
	}
	return text
}

// put replaces a file, as editors and deployments do.
func (s *reloadStage) put(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *reloadStage) told(text string) int {
	s.run.mu.Lock()
	defer s.run.mu.Unlock()
	return countText(s.run.lines, text)
}

func countText(lines []string, text string) (n int) {
	for _, line := range lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (s *reloadStage) awaitTold(text string, n int) {
	s.t.Helper()
	s.run.until(fmt.Sprintf("%d lines with %q", n, text), func(lines []string, _ bool) bool { return countText(lines, text) >= n })
}

// change makes a change, and waits until a call shows it.
func (s *reloadStage) change(text string, shown func() bool) {
	s.t.Helper()
	s.put("zilla.yaml", text)
	begun := time.Now()
	for !shown() {
		if time.Since(begun) > patience {
			s.t.Fatalf("a change is not in force after %s", patience)
		}
	}
	s.slowest = max(s.slowest, time.Since(begun))
}

// mistake makes a file wrong, and waits until that is explained.
func (s *reloadStage) mistake(what string, make func()) {
	s.t.Helper()
	n := s.told(what)
	make()
	s.awaitTold(what, n+1)
}

// servedBy reports whether a call is answered by a service.
func (s *reloadStage) servedBy(service int, direct bool) bool {
	s.t.Helper()
	s.probes++
	key := fmt.Sprintf("probe-%d-", s.probes)
	if err := s.unary("UnaryEcho", key, direct); err != nil {
		s.t.Fatal(err)
	}
	return s.services[service].count("call "+key+" ") > 0
}

func (s *reloadStage) unary(method, key string, direct bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
	if direct {
		ctx = metadata.AppendToOutgoingContext(ctx, "way", "direct")
	}
	in, out := []byte("\x0a\x01x"), []byte(nil)
	return s.client.conn.Invoke(ctx, "/"+echo+"/"+method, &in, &out)
}

// calls makes calls at a rate, through topics and straight in turn, until stop is called, which answers how many were made, how many a second, and which went wrong.
func (s *reloadStage) calls(rate int) (stop func() (made int, rate float64, wrong []string)) {
	var mu sync.Mutex
	var wrong []string
	var made atomic.Int64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var calls sync.WaitGroup
		defer calls.Wait()
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		begun := time.Now()
		for n := 0; ; {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			for ; n < int(time.Since(begun).Seconds()*float64(rate)); n++ { // a tick may have been missed
				calls.Go(func() {
					made.Add(1)
					if err := s.unary("UnaryEcho", fmt.Sprintf("load-%d-%p", n, done), n%2 == 0); err != nil {
						mu.Lock()
						defer mu.Unlock()
						wrong = append(wrong, err.Error())
					}
				})
			}
		}
	}()
	begun := time.Now()
	return func() (int, float64, []string) {
		close(done)
		took := time.Since(begun)
		<-ended
		return int(made.Load()), float64(made.Load()) / took.Seconds(), wrong
	}
}

// spent are the goroutines and the bytes of the heap that are in use.
func (s *reloadStage) spent() (goroutines, heap float64) {
	s.t.Helper()
	response, err := http.Get("http://" + s.run.admin() + "/debug/pprof/heap?gc=1")
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, response.Body)
	if response.Body.Close(); err != nil {
		s.t.Fatal(err)
	}
	response, err = http.Get("http://" + s.run.admin() + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if response.Body.Close(); err != nil {
		s.t.Fatal(err)
	}
	value := func(name string) float64 {
		found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(text)
		if found == nil {
			s.t.Fatalf("there is no %s in %s", name, text)
		}
		v, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			s.t.Fatal(err)
		}
		return v
	}
	return value("go_goroutines"), value("go_memstats_heap_alloc_bytes")
}

// The configuration changes, rightly and wrongly in turn, while calls are made: none of them fails, and nothing is left behind.
func TestReload(t *testing.T) {
	s := &reloadStage{world: newWorld(t, "-quiet")}
	s.services[0] = s.echo
	s.services[1] = start(t, exec.Command(binary(t, "echoservice"), "-quiet"))
	for i, service := range s.services {
		s.ports[i] = strings.TrimPrefix(service.await("listening "), "listening 127.0.0.1:")
	}
	if err := os.Rename(filepath.Join(s.dir, "zilla.yaml"), filepath.Join(s.dir, "seed.yaml")); err != nil {
		t.Fatal(err)
	}
	proto, err := os.ReadFile(filepath.Join(s.dir, "proto", "echo.proto"))
	if err != nil {
		t.Fatal(err)
	}
	keystore, err := os.ReadFile(filepath.Join(s.dir, "tls", "localhost.p12"))
	if err != nil {
		t.Fatal(err)
	}
	s.createTopics(4)
	now := edition{timeout: "20s", port: 7153}
	s.put("zilla.yaml", s.text(now))
	s.run = s.world.run("--pprof")
	s.client = dial(t, plainAddress)

	const refused = "the configuration is not reloaded"
	mistakes := []func(){
		func() {
			s.mistake("unknown key `bindigs`", func() { s.put("zilla.yaml", strings.Replace(s.text(now), "bindings:", "bindigs:", 1)) })
		},
		func() { s.mistake(refused, func() { text := s.text(now); s.put("zilla.yaml", text[:len(text)/2]) }) },
		func() {
			s.mistake("`options.port` of binding `north_tcp_server` needs a restart", func() { other := now; other.port = 7154; s.put("zilla.yaml", s.text(other)) })
		},
		func() {
			s.mistake("subject `echo` does not compile", func() { s.put("proto/echo.proto", "syntax = nonsense;") })
		},
		func() {
			s.mistake("the password of `vaults.my_servers` does not open keystore", func() {
				s.put("zilla.yaml", strings.Replace(s.text(now), "${{env.KEYSTORE_PASSWORD}}", "wrong", 1))
			})
		},
		func() {
			s.mistake("keystore `tls/localhost.p12` of", func() { s.put("tls/localhost.p12", "nonsense") })
		},
		func() {
			s.mistake("cannot read the configuration", func() {
				if err := os.Remove(filepath.Join(s.dir, "zilla.yaml")); err != nil {
					t.Fatal(err)
				}
			})
		},
	}
	correct := func() { // what only the next change would show
		s.put("proto/echo.proto", string(proto))
		s.put("tls/localhost.p12", string(keystore))
	}
	changes := []func(){
		func() {
			now.service = 1 - now.service
			s.change(s.text(now), func() bool { return s.servedBy(now.service, false) })
		},
		func() {
			now.narrow = !now.narrow
			s.change(s.text(now), func() bool {
				s.probes++
				err := s.unary("ClientStreamingEcho", fmt.Sprintf("probe-%d-", s.probes), false)
				if c := status.Code(err); c != codes.OK && c != codes.Unimplemented {
					t.Fatal(err)
				}
				return now.narrow == (status.Code(err) == codes.Unimplemented)
			})
		},
		func() {
			now.service = 1 - now.service
			s.change(s.text(now), func() bool { return s.servedBy(now.service, true) })
		},
		func() {
			now.timeout = map[string]string{"20s": "25s", "25s": "20s"}[now.timeout]
			n := s.told("the configuration is reloaded")
			s.put("zilla.yaml", s.text(now))
			s.awaitTold("the configuration is reloaded", n+1)
		},
	}
	var made int
	var rates []string
	half := func(from, to int) {
		stop := s.calls(reloadedCalls)
		for i := from; i < to; i++ {
			if i%2 == 0 {
				changes[i/2%len(changes)]()
				continue
			}
			mistakes[i/2%len(mistakes)]()
			correct()
		}
		n, rate, wrong := stop()
		made, rates = made+n, append(rates, fmt.Sprintf("%.0f", rate))
		if len(wrong) > 0 {
			t.Errorf("%d of %d calls went wrong, such as: %s", len(wrong), n, wrong[0])
		}
	}
	half(0, reloads/2)
	goroutines, heap := s.spent()
	half(reloads/2, reloads)
	var goroutinesAfter, heapAfter float64
	eventually(t, "goroutines and memory are as before", func() bool {
		goroutinesAfter, heapAfter = s.spent()
		return goroutinesAfter <= goroutines+10 && heapAfter <= heap*1.2+8<<20
	})
	t.Logf("%d reloads beside %d calls (%s a second), none of which failed; the slowest change was in force after %v; goroutines %.0f, then %.0f; heap %.1f MiB, then %.1f MiB",
		reloads, made, strings.Join(rates, ", "), s.slowest.Round(time.Millisecond), goroutines, goroutinesAfter, heap/(1<<20), heapAfter/(1<<20))
	s.run.signal(os.Interrupt)
	if code := s.run.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, s.run.output())
	}
}
