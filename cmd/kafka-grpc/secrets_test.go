package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcout"
	"kafkagrpc/wire/rawcodec"
)

// secretsFile passes on all metadata that may be a secret.
const secretsFile = `name: secrets
telemetry: {exporters: {out: {type: stdout}}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: %s}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0:
    type: grpc-kafka
    kind: proxy
    options: {metadata: {allow: [authorization, cookie]}}
    exit: cache0
    routes: [{with: {capability: produce, topic: requests, reply-to: replies}}]
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0:
    type: kafka
    kind: client
    options: {servers: ["%s"], sasl: {mechanism: plain, username: ann, password: "${{env.KAFKA_PASSWORD}}"}}
    exit: tcp1
  tcp1: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    options:
      metadata: {allow: [authorization, cookie]}
      processing: {retry: {initial: 1ms, max: 1ms, max-elapsed: 1s}, breaker: {failures: 2, open: 100ms}}
    routes: [{exit: grpc1, when: [{topic: requests, reply-to: replies}]}]
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %s}}
`

// Not even for debugging, and whatever goes wrong, does a secret come out: of callers, of Kafka, of a collector, of the admin address.
func TestSecretsAreNotLogged(t *testing.T) {
	const (
		kafkaSecret, tokenSecret, otlpSecret = "kafka-secret-1", "admin-secret-234567890", "otlp-secret-3"
		authorization, cookie, other         = "bearer-secret-4", "cookie-secret-5", "other-secret-6"
	)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ann:"+otlpSecret+"@127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization="+otlpSecret)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "ann", kafkaSecret),
		kfake.SeedTopics(1, "requests", "replies"), kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	seen := make(chan metadata.MD, 100)
	service := failingOn(t, seen)
	_, servicePort, err := net.SplitHostPort(service)
	if err != nil {
		t.Fatal(err)
	}
	dir, front := t.TempDir(), freePort(t)
	file, token := filepath.Join(dir, "zilla.yaml"), filepath.Join(dir, "token")
	for name, text := range map[string]string{
		file: fmt.Sprintf(secretsFile, front, cluster.ListenAddrs()[0], servicePort), token: tokenSecret,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", file, "--state-dir", filepath.Join(dir, "state"), "--log-level", "debug", "--admin-token-file", token},
			out, out, environment("KAFKA_PASSWORD", kafkaSecret))
	}()
	out.await(t, "ready ")

	client := grpcout.New(grpcout.Options{})
	call := func(method string) grpcout.Result {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // which ends the retries
		defer cancel()
		return client.Unary(ctx, grpcout.Target{Scheme: "http", Address: "127.0.0.1:" + front}, grpcout.Call{
			Method: method, Metadata: metadata.Pairs("authorization", authorization, "cookie", cookie, "x-password", other, "x-bin", other),
		})
	}
	if r := call("secrets.Echo/Ask"); r.Status != codes.OK {
		t.Fatalf("%+v", r)
	}
	if md := <-seen; len(md.Get("authorization")) != 1 || len(md.Get("cookie")) != 1 || len(md.Get("x-password")) != 1 {
		t.Errorf("the service got %v", md)
	}
	call("secrets.Echo/Fail")
	out.await(t, "a service fails")
	out.await(t, "retries exhausted")

	// Records that others wrote, without a place to answer, and with metadata that is none.
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.SASL(plain.Auth{User: "ann", Pass: kafkaSecret}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	secrets := []kgo.RecordHeader{
		{Key: "meta:authorization", Value: []byte(authorization + "\n")}, {Key: "meta:cookie", Value: []byte(cookie)}, {Key: "meta:x-bin", Value: []byte(other)},
	}
	named := append([]kgo.RecordHeader{
		{Key: "zilla:service", Value: []byte("secrets.Echo")}, {Key: "zilla:method", Value: []byte("Ask")},
		{Key: "zilla:correlation-id", Value: []byte("c")}, {Key: "zilla:reply-to", Value: []byte("elsewhere")},
	}, secrets...)
	for _, headers := range [][]kgo.RecordHeader{secrets, named} {
		if err := producer.ProduceSync(ctx, &kgo.Record{Topic: "requests", Value: []byte("v"), Headers: headers}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	out.await(t, "no zilla:correlation-id header")
	out.await(t, "is not one that a route of topic requests names")

	// Who asks with the wrong token, and with the right one.
	for header, want := range map[string]int{"Bearer " + tokenSecret: http.StatusOK, "Bearer " + other: http.StatusUnauthorized} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, adminAddr(t, out)+"/v1/keys", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", header)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != want {
			t.Errorf("%d, %v, want %d", response.StatusCode, err, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()

	// The broker takes nothing any more.
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.PolicyViolation, Count: -1})
	if r := call("secrets.Echo/Ask"); r.Status == codes.OK {
		t.Errorf("%+v", r)
	}
	out.await(t, "a call could not be written to Kafka")
	fault.Remove()

	if err := client.Close(); err != nil {
		t.Error(err)
	}
	stop()
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d: %s", got, out)
	}
	for _, secret := range []string{kafkaSecret, tokenSecret, otlpSecret, authorization, cookie, other} {
		for text := range strings.Lines(out.String()) {
			if strings.Contains(text, secret) {
				t.Errorf("%q comes out: %s", secret, text)
			}
		}
	}
	for _, want := range []string{`"msg":"request"`, "telemetry", `"level":"DEBUG"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing of %s came out", want)
		}
	}
}

// failingOn is a service that answers Fail with UNAVAILABLE, and everything else with nothing.
func failingOn(t *testing.T, seen chan<- metadata.MD) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		select {
		case seen <- md:
		default:
		}
		if name, _ := grpc.MethodFromServerStream(stream); strings.HasSuffix(name, "/Fail") {
			return status.Error(codes.Unavailable, "down")
		}
		return stream.SendMsg(new([]byte))
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
