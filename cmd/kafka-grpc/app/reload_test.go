package app_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/issuertest"
	"kafkagrpc/internal/logtest"
	"kafkagrpc/topology"
	"kafkagrpc/wire/rawcodec"
)

// again loads the file of an app with some of its text replaced, as it is loaded again while the app runs.
func again(t *testing.T, c app.Config, replace ...string) func() (*topology.Topology, error) {
	t.Helper()
	text, err := os.ReadFile(c.Topology.File)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(c.Topology.File), "again.yaml")
	if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() (*topology.Topology, error) {
		top, err := topology.Load(path, topology.Options{})
		if err != nil {
			return nil, err
		}
		for i := range top.Listeners {
			top.Listeners[i].Port = 0 // as that of the app
		}
		return top, nil
	}
}

// Calls that wait are made as the configuration says when it has changed.
func TestReloadReachesCallsThatWait(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		wrong string   // of the file, in place of {max-in-flight: 5, rate: {calls: 1, per: 1h}} and the port, split by a space
		right []string // how it is corrected
		calls int
		waits func(metrics string) bool
	}{
		"for their turn": {
			right: []string{", rate: {calls: 1, per: 1h}", ""}, calls: 2,
			waits: func(m string) bool {
				return strings.Contains(m, "kafka_grpc_calls_waiting") && strings.Contains(m, `remote`)
			},
		},
		"for their service": {
			right: []string{"port: 1}", "port: %s}", ", rate: {calls: 1, per: 1h}", ""}, calls: 2,
			waits: func(m string) bool { return strings.Contains(m, `target="127.0.0.1:1"`) },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var port string
			c, broker, echo := between(t, func(broker, p string) string {
				port = p
				text := fmt.Sprintf(pacedFile, broker, port)
				if name == "for their service" {
					text = strings.ReplaceAll(text, "port: "+port+"}", "port: 1}")
				}
				return text
			})
			lines := &logtest.Lines{}
			c.Admin, c.Log = &app.Admin{Addr: "127.0.0.1:0"}, slog.New(slog.NewJSONHandler(lines, nil))
			a := start(t, c)
			client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for _, topic := range []string{"one", "another"} {
				if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("{}")}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "a call waits", func() bool {
				_, text := get(t, a.AdminURL()+"/metrics")
				return tt.waits(text)
			})
			for i, r := range tt.right {
				if strings.Contains(r, "%s") {
					tt.right[i] = fmt.Sprintf(r, port)
				}
			}
			a.Reload(t.Context(), again(t, c, tt.right...))
			if lines.Count("the configuration is reloaded") != 1 {
				t.Fatal(lines)
			}
			eventually(t, "all calls are made", func() bool { return echo.Calls() == tt.calls })
		})
	}
}

func eventually(t *testing.T, what string, try func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); !try(); <-tick.C {
		if time.Since(begun) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

const frontFile = `name: x
catalogs:
  protos: {type: filesystem, options: {subjects: {echo: {path: proto/echo.proto}}}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0:
    type: grpc
    kind: server
    catalog: {protos: [{subject: echo}]}
    routes:
      - when: [{method: grpc.examples.echo.Echo/UnaryEcho}]
        exit: echo0
  echo0: {type: echo, kind: server}
`

// Each reload counts for calls from then on, or changes nothing and is explained.
func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, embedded.Seed()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "front.yaml")
	if err := os.WriteFile(path, []byte(frontFile), 0o600); err != nil {
		t.Fatal(err)
	}
	top, err := topology.Load(path, topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	top.Listeners[0].Port = 0
	lines := &logtest.Lines{}
	c := app.Config{Topology: top, Admin: &app.Admin{Addr: "127.0.0.1:0"}, Log: slog.New(slog.NewJSONHandler(lines, nil))}
	a := start(t, c)
	conn, err := grpc.NewClient(a.Addrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call := func(method string) codes.Code {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		in, out := []byte("x"), []byte(nil)
		return status.Code(conn.Invoke(ctx, "/grpc.examples.echo.Echo/"+method, &in, &out))
	}
	steps := []struct {
		name    string
		replace []string
		says    string
		result  string
		calls   map[string]codes.Code
	}{
		{"the same", nil, "says the same as before", "unchanged", map[string]codes.Code{"UnaryEcho": codes.OK, "Another": codes.Unimplemented}},
		{"another route", []string{"Echo/UnaryEcho", "Echo/Another"}, "routes or services of binding `tcp0`", "applied", map[string]codes.Code{"UnaryEcho": codes.Unimplemented, "Another": codes.OK}},
		{"a mistake", []string{"exit: echo0", "exit: echo1"}, "again.yaml:13:15: `routes[0].exit` of binding `grpc0`", "wrong", map[string]codes.Code{"UnaryEcho": codes.Unimplemented, "Another": codes.OK}},
		{
			"what needs a restart", []string{"name: x", "name: y", "Echo/UnaryEcho", "Echo/*"}, "again.yaml:1:7: `name` needs a restart", "restart",
			map[string]codes.Code{"UnaryEcho": codes.Unimplemented, "Another": codes.OK},
		},
		{
			"a service of the program", []string{"grpc.examples.echo.Echo/UnaryEcho", "grpc.health.v1.Health/*"}, "names service grpc.health.v1.Health needs a restart", "restart",
			map[string]codes.Code{"UnaryEcho": codes.Unimplemented, "Another": codes.OK},
		},
		{"another route again", []string{"Echo/UnaryEcho", "Echo/*"}, "routes or services of binding `tcp0`", "applied", map[string]codes.Code{"UnaryEcho": codes.OK, "Another": codes.OK}},
		{"other clients", []string{"port: 7151}, exit: http0", "port: 7151}, routes: [{exit: http0, when: [{cidr: 127.0.0.0/8}]}]"}, "clients of binding `tcp0`", "applied", map[string]codes.Code{"UnaryEcho": codes.OK, "Another": codes.Unimplemented}},
		{"attributes", []string{"name: x", "name: x\ntelemetry: {attributes: {team: green}}"}, "`telemetry.attributes`", "applied", map[string]codes.Code{"UnaryEcho": codes.OK}},
	}
	counted := map[string]int{}
	for _, step := range steps {
		before := lines.Count(step.says)
		a.Reload(t.Context(), again(t, c, step.replace...))
		if lines.Count(step.says) != before+1 {
			t.Errorf("%s: %s", step.name, lines)
		}
		for method, want := range step.calls {
			if got := call(method); got != want {
				t.Errorf("%s: %s is answered %v, not %v", step.name, method, got, want)
			}
		}
		counted[step.result]++
		_, metrics := get(t, a.AdminURL()+"/metrics")
		if want := fmt.Sprintf("kafka_grpc_config_reloads_total{result=%q} %d\n", step.result, counted[step.result]); !strings.Contains(metrics, want) {
			t.Errorf("%s: the metrics have no %s", step.name, want)
		}
	}
	if _, metrics := get(t, a.AdminURL()+"/metrics"); !strings.Contains(metrics, `team="green"`) {
		t.Error("the metrics have no new attribute")
	}
	// One that fails otherwise, and one that comes when all is stopped.
	a.Reload(t.Context(), func() (*topology.Topology, error) { return nil, errors.New("the disk is gone") })
	if lines.Count("the disk is gone") != 1 {
		t.Error(lines)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	a.Reload(t.Context(), again(t, c))
}

const guardedFile = `name: x
guards:
  people: {type: jwt, options: {issuer: "%s", audience: https://api.example.com, roles: permissions}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: 7151}, exit: http0}
  http0:
    type: http
    kind: server
    options: {authorization: {people: {credentials: {headers: {authorization: "Bearer {credentials}"}}}}}
    exit: grpc0
  grpc0:
    type: grpc
    kind: server
    routes:
      - guarded: {people: [read]}
        exit: echo0
  echo0: {type: echo, kind: server}
`

// Guards count for the next call, and nobody comes in between two of them.
func TestReloadOfGuards(t *testing.T) {
	t.Parallel()
	issuer := issuertest.Start(t)
	path := filepath.Join(t.TempDir(), "guarded.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, guardedFile, issuer.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	top, err := topology.Load(path, topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	top.Listeners[0].Port = 0
	lines := &logtest.Lines{}
	c := app.Config{Topology: top, Log: slog.New(slog.NewJSONHandler(lines, nil))}
	a := start(t, c)
	conn, err := grpc.NewClient(a.Addrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	token := issuer.Token(map[string]any{"aud": "https://api.example.com", "permissions": []string{"read"}})
	call := func(token string) codes.Code {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		in, out := []byte("x"), []byte(nil)
		return status.Code(conn.Invoke(ctx, "/a.B/C", &in, &out))
	}
	for _, step := range []struct {
		name          string
		replace       []string
		with, without codes.Code
	}{
		{"as it began", nil, codes.OK, codes.Unauthenticated},
		{"another role", []string{"[read]", "[write]"}, codes.PermissionDenied, codes.Unauthenticated},
		{"another audience", []string{"api.example.com", "other.example.com"}, codes.Unauthenticated, codes.Unauthenticated},
		{"no guard", []string{"guarded: {people: [read]}\n        exit", "exit"}, codes.OK, codes.OK},
		{"a guard again", nil, codes.OK, codes.Unauthenticated},
		{"an issuer that is away", []string{issuer.URL, "http://127.0.0.1:1"}, codes.OK, codes.Unauthenticated},
		{"another place for the token", []string{"headers: {authorization", "headers: {x-token"}, codes.Unauthenticated, codes.Unauthenticated},
	} {
		if later := a.Reload(t.Context(), again(t, c, step.replace...)); later != (step.name == "an issuer that is away") {
			t.Errorf("%s: to be tried again: %v", step.name, later)
		}
		if got := call(token); got != step.with {
			t.Errorf("%s: with a token: %v, not %v: %s", step.name, got, step.with, lines)
		}
		if got := call(""); got != step.without {
			t.Errorf("%s: without a token: %v, not %v", step.name, got, step.without)
		}
	}
}
