package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/issuertest"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// guardedFile takes calls of those who have a token with a role, and tells services who they are.
const guardedFile = `name: guarded
telemetry: {exporters: {out: {type: stdout}, scraped: {type: prometheus}}}
guards:
  people:
    type: jwt
    options: {issuer: "%s", audience: https://api.example.com, attributes: {tenant: tenant}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: %s}, exit: http0}
  http0:
    type: http
    kind: server
    options: {authorization: {people: {credentials: {headers: {authorization: "Bearer {credentials}"}}}}}
    exit: grpc0
  grpc0: {type: grpc, kind: server, routes: [{guarded: {people: []}, exit: produce0}]}
  produce0:
    type: grpc-kafka
    kind: proxy
    routes:
      - exit: cache0
        guarded: {people: [echo]}
        with:
          capability: produce
          topic: requests
          reply-to: replies
          overrides: {"meta:x-user": "${guarded['people'].identity}", tenant: "${guarded['people'].attributes.tenant}"}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    routes: [{exit: grpc1, when: [{topic: requests, reply-to: replies}]}]
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %s}}
`

// Who has no token that an issuer has signed for this audience at this time, or lacks a role, is told so, and nothing of the call is written
// to Kafka. Who has one is known to the service. The token is nowhere, and who has asked is in no view.
func TestGuardedCallsReachKafkaWithATokenOnly(t *testing.T) {
	issuer := issuertest.Start(t)
	seen := make(chan metadata.MD, 100)
	_, servicePort, err := net.SplitHostPort(failingOn(t, seen))
	if err != nil {
		t.Fatal(err)
	}
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir, front := t.TempDir(), freePort(t)
	file := filepath.Join(dir, "zilla.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, guardedFile, issuer.URL, front, servicePort), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	running, end := context.WithCancel(ctx)
	out, code := newOutput(), make(chan int, 1)
	go func() {
		code <- execute(running, []string{"run", "-c", file, "--state-dir", filepath.Join(dir, "state"), "--brokers", broker.Brokers()[0], "--create-topics", "--log-level", "debug"}, out, out, environment())
	}()
	out.await(t, "ready ")
	client := grpcout.New(grpcout.Options{})
	call := func(token string) grpcout.Result {
		md := metadata.Pairs("x-user", "root", "idempotency-key", "key-of-all")
		if token != "" {
			md.Set("authorization", "Bearer "+token)
		}
		return client.Unary(ctx, grpcout.Target{Scheme: "http", Address: "127.0.0.1:" + front}, grpcout.Call{Method: "guarded.Echo/Ask", Metadata: md})
	}
	now, rights := time.Now(), map[string]any{"scope": "echo", "tenant": "acme"}
	with := func(name string, value any) map[string]any {
		return issuer.Claims(map[string]any{"scope": "echo", "tenant": "acme", name: value})
	}
	own := issuer.Key()
	for _, tt := range []struct {
		name, token string
		want        codes.Code
	}{
		{"no token", "", codes.Unauthenticated},
		{"no token of ours", "x.y.z", codes.Unauthenticated},
		{"wrong issuer", issuertest.Sign(t, own, with("iss", "https://evil.example.com")), codes.Unauthenticated},
		{"wrong audience", issuertest.Sign(t, own, with("aud", "https://other.example.com")), codes.Unauthenticated},
		{"wrong key", issuertest.Sign(t, issuertest.NewKey(t, own.ID), issuer.Claims(rights)), codes.Unauthenticated},
		{"unknown key", issuertest.Sign(t, issuertest.NewKey(t, "other"), issuer.Claims(rights)), codes.Unauthenticated},
		{"algorithm none", issuertest.Forge(t, "none", own.ID, nil, issuer.Claims(rights)), codes.Unauthenticated},
		{"HMAC", issuertest.Forge(t, "HS256", own.ID, []byte("x"), issuer.Claims(rights)), codes.Unauthenticated},
		{"expired", issuertest.Sign(t, own, with("exp", now.Add(-2*time.Minute).Unix())), codes.Unauthenticated},
		{"not yet valid", issuertest.Sign(t, own, with("nbf", now.Add(2*time.Minute).Unix())), codes.Unauthenticated},
		{"huge", issuer.Token(map[string]any{"scope": "echo", "pad": strings.Repeat("x", 20<<10)}), codes.Unauthenticated},
		{"another role", issuer.Token(map[string]any{"scope": "talk", "tenant": "acme"}), codes.PermissionDenied},
		{"no tenant", issuer.Token(map[string]any{"scope": "echo"}), codes.PermissionDenied},
	} {
		if r := call(tt.token); r.Status != tt.want {
			t.Errorf("%s: %v %s, want %v", tt.name, r.Status, r.Message, tt.want)
		}
	}
	headers := func() (all string, records int) {
		reader, err := kafka.NewReader(kafka.Cluster{Brokers: broker.Brokers()})
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		for _, topic := range []string{"requests", "replies", "guarded-remote0-dead-letters", "guarded-remote0-table"} {
			spans, err := reader.Spans(topic)
			if err != nil {
				t.Fatal(err)
			}
			for _, span := range spans {
				if err := reader.Read(ctx, topic, span, func(r wire.Record) error {
					records++
					all += fmt.Sprintf("%s %s %q %s\n", topic, r.Key, r.Value, r.Headers)
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		return all, records
	}
	metrics := getBody(t, ctx, adminAddr(t, out)+"/metrics")
	for reason, n := range map[string]int{"missing": 1, "malformed": 1, "issuer": 1, "audience": 1, "signature": 1, "unknown_key": 1, "algorithm": 2, "expired": 1, "not_yet_valid": 1, "too_large": 1, "role": 1, "attribute": 1} {
		if want := fmt.Sprintf(`kafka_grpc_calls_refused_total{guard="people",reason="%s"} %d`, reason, n); !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	if all, n := headers(); n > 0 {
		t.Fatalf("of calls that were refused there are %d records: %s", n, all)
	}
	issuer.Add(issuertest.NewKey(t, "next")) // a key more in the set, and one fewer below
	ann, bob := issuer.Token(map[string]any{"sub": "ann", "scope": "talk echo", "tenant": "acme"}), ""
	if r := call(ann); r.Status != codes.OK {
		t.Fatalf("%+v", r)
	}
	if got := (<-seen).Get("x-user"); len(got) != 1 || got[0] != "ann" {
		t.Errorf("the service was called by %q", got)
	}
	bob = issuer.Token(map[string]any{"sub": "bob", "scope": "echo", "tenant": "acme"})
	if r := call(bob); r.Status != codes.OK {
		t.Fatalf("%+v", r)
	}
	if got := (<-seen).Get("x-user"); len(got) != 1 || got[0] != "bob" { // the same idempotency key of somebody else is another one
		t.Errorf("the service was called by %q", got)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if all, _ := headers(); strings.Contains(all, ann) || strings.Contains(all, bob) || !strings.Contains(all, "tenant") {
		t.Errorf("a token is in Kafka, or the tenant is not: %s", all)
	}
	var list struct {
		Entries []struct{ Key string }
	}
	if err := json.Unmarshal([]byte(getBody(t, ctx, adminAddr(t, out)+"/v1/keys")), &list); err != nil || len(list.Entries) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	var views string
	for _, k := range list.Entries {
		views += getBody(t, ctx, adminAddr(t, out)+"/v1/keys/"+k.Key)
	}
	if strings.Contains(views, "x-user") || strings.Contains(views, "ann") || strings.Contains(views, "acme") {
		t.Errorf("a view tells who has asked: %s", views)
	}
	end()
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d: %s", c, out)
	}
	if text := out.String(); strings.Contains(text, ann) || strings.Contains(text, bob) {
		t.Errorf("a token is in the log: %s", text)
	}
}

func getBody(t *testing.T, ctx context.Context, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %s, %v", response.StatusCode, body, err)
	}
	return string(body)
}

// An issuer that is not to be had is an error of the start, within a while.
func TestIssuerThatIsDown(t *testing.T) {
	t.Parallel()
	issuer := issuertest.Start(t)
	issuer.Down(true)
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "zilla.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, guardedFile, issuer.URL, freePort(t), "1"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := newOutput()
	code := execute(t.Context(), []string{"run", "-c", file, "--state-dir", filepath.Join(dir, "state"), "--brokers", broker.Brokers()[0], "--create-topics"}, out, out, environment())
	if text := out.String(); code == exitOK || !strings.Contains(text, "guard people: the keys that sign tokens cannot be fetched") || !strings.Contains(text, "503 Service Unavailable") {
		t.Errorf("exit code %d: %s", code, text)
	}
}
