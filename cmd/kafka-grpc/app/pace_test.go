package app_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/topology"
)

const pacedFile = `name: x
catalogs:
  protos: {type: filesystem, options: {subjects: {echo: {path: proto/echo.proto}}}}
bindings:
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["%[1]s"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    exit: grpc1
    options: {processing: {drain: 10ms}}
    routes:
      - when: [{topic: one}]
        with: {method: grpc.examples.echo.Echo/UnaryEcho}
  remote1:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    exit: grpc1
    options: {processing: {drain: 10ms}}
    routes:
      - when: [{topic: another}]
        with: {method: grpc.examples.echo.Echo/UnaryEcho}
  grpc1: {type: grpc, kind: client, options: {max-in-flight: 5, rate: {calls: 1, per: 1h}}, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %[2]s}}
`

// The bindings of an instance share the pace of the grpc client that they lead to.
func TestBindingsShareThePaceOfTheFile(t *testing.T) {
	t.Parallel()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	echo, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := echo.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	if err := os.CopyFS(dir, embedded.Seed()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "paced.yaml")
	port := echo.Addr()[strings.LastIndex(echo.Addr(), ":")+1:]
	if err := os.WriteFile(path, fmt.Appendf(nil, pacedFile, broker.Brokers()[0], port), 0o600); err != nil {
		t.Fatal(err)
	}
	top, err := topology.Load(path, topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, app.Config{
		Topology: top, StateDir: filepath.Join(dir, "state"), CreateTopics: 1, Admin: &app.Admin{Addr: "127.0.0.1:0"}, Log: slog.New(slog.DiscardHandler),
	})
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
	const waits = `kafka_grpc_calls_waiting{binding="grpc1",group="`
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for begun, text := time.Now(), ""; !strings.Contains(text, waits+`x-remote0"} 1`) && !strings.Contains(text, waits+`x-remote1"} 1`); <-tick.C {
		if time.Since(begun) > patience || echo.Calls() > 1 {
			t.Fatalf("%d calls, and none waits: %s", echo.Calls(), text)
		}
		_, text = get(t, a.AdminURL()+"/metrics")
	}
	if echo.Calls() > 1 {
		t.Errorf("%d calls", echo.Calls())
	}
}
