package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

// oneWayFile is a file whose only route has no reply topic.
const oneWayFile = `
name: events
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: %s}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0:
    type: grpc-kafka
    kind: proxy
    routes:
      - exit: cache0
        with: {capability: produce, topic: events, key: "${{env.TENANT}}", overrides: {tenant: "${{env.TENANT}}"}}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
`

// A north server alone, with nobody to answer: its records are on the topic when the caller has its OK.
func TestOneWayRoute(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	address := net.JoinHostPort("127.0.0.1", port)
	file := filepath.Join(t.TempDir(), "zilla.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, oneWayFile, port), 0o600); err != nil {
		t.Fatal(err)
	}
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	running, end := context.WithCancel(ctx)
	stderr, code := newOutput(), make(chan int, 1)
	go func() {
		code <- execute(running, []string{"run", "-c", file, "--brokers", broker.Brokers()[0], "--create-topics"}, newOutput(), stderr, environment("TENANT", "acme"))
	}()
	stderr.await(t, "ready grpc://"+address)

	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil || health.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	stream, err := conn.NewStream(metadata.AppendToOutgoingContext(ctx, "a", "b"), &grpc.StreamDesc{ClientStreams: true}, "/events.Sink/Put",
		grpc.ForceCodecV2(rawcodec.Codec{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"1", "2", "3"} {
		message := []byte(value)
		if err := stream.SendMsg(&message); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var reply []byte
	if err := stream.RecvMsg(&reply); err != nil || len(reply) != 0 {
		t.Errorf("answer %q, %v, want an empty message", reply, err)
	}

	reader, err := kafka.NewReader(kafka.Cluster{Brokers: broker.Brokers()})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	spans, err := reader.Spans("events")
	if err != nil || len(spans) != 1 {
		t.Fatal(spans, err)
	}
	var got []string
	if err := reader.Read(ctx, "events", spans[0], func(r wire.Record) error {
		line := fmt.Sprintf("%s %q", r.Key, r.Value)
		for _, h := range r.Headers {
			line += fmt.Sprintf(" %s=%s", h.Name, h.Value)
		}
		got = append(got, line)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{`acme "1" tenant=acme meta:a=b`, `acme "2" tenant=acme meta:a=b`, `acme "3" tenant=acme meta:a=b`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	end()
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}
