package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/issuertest"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/pkitest"
)

// browsersFile takes calls of browsers with a token, through Kafka, over HTTP/1.1 and over HTTP/2 with TLS.
const browsersFile = `name: browsers
guards:
  people: {type: jwt, options: {issuer: "%[1]s", audience: "https://api.example.com"}}
catalogs: {protos: {type: filesystem, options: {subjects: {echo: {path: proto/echo.proto}}}}}
vaults: {servers: {type: filesystem, options: {keys: {store: tls/localhost.p12, type: pkcs12, password: "${{env.KEYSTORE_PASSWORD}}"}}}}
bindings:
  tcp0:
    type: tcp
    kind: server
    options: {host: 127.0.0.1, port: [%[2]s, %[3]s]}
    routes: [{when: [{port: %[2]s}], exit: http0}, {when: [{port: %[3]s}], exit: tls0}]
  tls0: {type: tls, kind: server, vault: servers, options: {keys: [localhost]}, exit: http0}
  http0:
    type: http
    kind: server
    options:
      versions: [h2, http/1.1]
      access-control: {policy: cross-origin, allow: {origins: ["%[4]s"], credentials: true}, max-age: 60}
      authorization: {people: {credentials: {headers: {authorization: "Bearer {credentials}"}, cookies: {token: "{credentials}"}}}}
    exit: grpc0
  grpc0: {type: grpc, kind: server, catalog: {protos: [{subject: echo}]}, routes: [{guarded: {people: [echo]}, exit: produce0}]}
  produce0:
    type: grpc-kafka
    kind: proxy
    routes: [{exit: cache0, with: {capability: produce, topic: requests, reply-to: replies}}]
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    routes: [{exit: grpc1, when: [{topic: requests, reply-to: replies}]}]
  grpc1: {type: grpc, kind: client, catalog: {protos: [{subject: echo}]}, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %[5]s}}
`

// seenByPage is what a page sees of a call.
type seenByPage struct {
	Code     int      `json:"code"`
	Message  string   `json:"message"`
	Messages []string `json:"messages"`
}

// A page in a real browser calls with two clients, Connect's, whose code is generated, and that of gRPC-Web in text: in both kinds that
// browsers can, over both versions of HTTP. It may with a token, from a page that is allowed; nothing else of it is on Kafka.
func TestBrowsersCall(t *testing.T) {
	pages := http.FileServer(http.Dir("testdata/browser"))
	serve := func() *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><title>calls</title><script src="clients.js"></script>`)
				return
			}
			pages.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		return s
	}
	allowed, stranger := serve(), serve()
	issuer := issuertest.Start(t)
	echo, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := echo.Close(); err != nil {
			t.Error(err)
		}
	}()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir, plain, secured := t.TempDir(), freePort(t), freePort(t)
	if err := embedded.WriteSeed(dir, pkitest.Password); err != nil {
		t.Fatal(err)
	}
	_, echoPort, _ := net.SplitHostPort(echo.Addr())
	file := filepath.Join(dir, "browsers.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, browsersFile, issuer.URL, plain, secured, allowed.URL, echoPort), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	out, code := newOutput(), make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", file, "--state-dir", filepath.Join(dir, "state"), "--brokers", broker.Brokers()[0], "--create-topics"}, out, out, environment())
	}()
	out.await(t, "ready ")
	b := newBrowser(t, allowed.URL, chromedp.Flag("ignore-certificate-errors", true))
	call := func(client, url, method, token string, cookies bool) (seen seenByPage) {
		t.Helper()
		headers := "{}"
		if token != "" {
			headers = fmt.Sprintf("{authorization: 'Bearer %s'}", token)
		}
		seen, err := chromedp.Run(b.ctx, chromedp.Evaluate[seenByPage](fmt.Sprintf("clients.%s('%s', '%s', 'hi', %s, %t)", client, url, method, headers, cookies), chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatalf("%s %s %s: %v, %q", client, url, method, err, b.console())
		}
		return seen
	}
	good, weak := issuer.Token(map[string]any{"scope": "echo"}), issuer.Token(nil)
	wrong := issuertest.Sign(t, issuertest.NewKey(t, "key-1"), issuer.Claims(map[string]any{"scope": "echo"}))
	urls := map[string]string{"HTTP/1.1": "http://127.0.0.1:" + plain, "HTTP/2": "https://127.0.0.1:" + secured}
	calls := 0
	for version, url := range urls {
		for _, client := range []string{"connect", "text"} {
			for method, want := range map[string][]string{"unaryEcho": {"hi"}, "serverStreamingEcho": {"hi", "hi", "hi"}} {
				what := version + " " + client + " " + method
				if seen := call(client, url, method, "", false); seen.Code != 16 || !strings.Contains(seen.Message, "no token") {
					t.Errorf("%s without a token: %+v", what, seen)
				}
				if seen := call(client, url, method, wrong, false); seen.Code != 16 || !strings.Contains(seen.Message, "signature") {
					t.Errorf("%s with a wrong token: %+v", what, seen)
				}
				if seen := call(client, url, method, weak, false); seen.Code != 7 {
					t.Errorf("%s without the role: %+v", what, seen)
				}
				seen := call(client, url, method, good, false)
				if diff := cmp.Diff(seenByPage{Messages: want}, seen); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
				calls++
			}
		}
	}
	b.evaluate("the cookie", fmt.Sprintf("document.cookie = 'token=%s'", good))
	if seen := call("connect", urls["HTTP/1.1"], "unaryEcho", "", true); seen.Code != 0 {
		t.Errorf("with a cookie: %+v", seen)
	}
	calls++

	b.do("the page of a stranger", chromedp.Navigate(stranger.URL))
	for version, url := range urls {
		for _, client := range []string{"connect", "text"} {
			if seen := call(client, url, "unaryEcho", good, false); seen.Code == 0 || len(seen.Messages) > 0 {
				t.Errorf("%s %s from the page of a stranger: %+v", version, client, seen)
			}
		}
	}
	reader, err := kafka.NewReader(kafka.Cluster{Brokers: broker.Brokers()})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	spans, err := reader.Spans("requests")
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, s := range spans {
		records += int(s.To - s.From)
	}
	if records != 2*calls { // a message and an end each
		t.Errorf("%d records are on the topic, want those of %d calls", records, calls)
	}
	end()
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d: %s", c, out)
	}
}
