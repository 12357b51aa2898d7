package app_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/topology"
)

// between is an app between a Kafka and an echo service. file is its configuration, given the broker and the port of the service, and options how it is loaded.
func between(t *testing.T, file func(broker, port string) string, options ...topology.Options) (app.Config, *embedded.Kafka, *embedded.Echo) {
	t.Helper()
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
	_, port, err := net.SplitHostPort(echo.Addr())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, embedded.Seed()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "between.yaml")
	if err := os.WriteFile(path, []byte(file(broker.Brokers()[0], port)), 0o600); err != nil {
		t.Fatal(err)
	}
	top, err := topology.Load(path, append(options, topology.Options{})[0])
	if err != nil {
		t.Fatal(err)
	}
	return app.Config{Topology: top, StateDir: filepath.Join(dir, "state"), CreateTopics: 1, Log: slog.New(slog.DiscardHandler)}, broker, echo
}
