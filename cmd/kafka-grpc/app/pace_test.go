package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/cmd/kafka-grpc/app"
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
	c, broker, echo := between(t, func(broker, port string) string { return fmt.Sprintf(pacedFile, broker, port) })
	c.Admin = &app.Admin{Addr: "127.0.0.1:0"}
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
