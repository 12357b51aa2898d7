package app_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/topology"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One for the whole process, started by sarama's metrics and never stopped.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// Ends by itself within a second after its store is closed; Close does not wait for it.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
	)
}

const patience = 60 * time.Second

// seed is the seed's configuration on an embedded Kafka, without a service, on ports that are free.
func seed(t *testing.T) app.Config {
	t.Helper()
	dir := t.TempDir()
	if err := embedded.WriteSeed(dir, "changeit"); err != nil {
		t.Fatal(err)
	}
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	environment := map[string]string{"ECHO_SERVER_HOST": "127.0.0.1", "ECHO_SERVER_PORT": "1", "KEYSTORE_PASSWORD": "changeit"}
	top, err := topology.Load(filepath.Join(dir, "zilla.yaml"), topology.Options{
		Brokers: broker.Brokers(), Listen: "127.0.0.1", LookupEnv: func(name string) (string, bool) { value, ok := environment[name]; return value, ok },
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range top.Listeners {
		top.Listeners[i].Port = 0
	}
	return app.Config{
		Topology: top, StateDir: filepath.Join(dir, "state"), CreateTopics: 1, Admin: &app.Admin{Addr: "127.0.0.1:0"}, Views: app.Views{Mode: app.All},
		Log: slog.New(slog.DiscardHandler),
	}
}

// start starts an app, waits until it is ready, and stops it when the test ends.
func start(t *testing.T, c app.Config) *app.App {
	t.Helper()
	a, err := app.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return a
}

// get asks the admin address.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// A start that fails gives back what it has taken: the next one, in the same folder, finds it free.
func TestStartThatFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := seed(t)
	c.Topology.Listeners[1].Port = taken.Addr().(*net.TCPAddr).Port
	if _, err := app.Start(t.Context(), c); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	c.Topology.Listeners[1].Port = 0
	start(t, c)
}

// writeFile writes a configuration into a folder of its own.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zilla.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
