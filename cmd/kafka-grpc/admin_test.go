package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kafkagrpc/internal/embedded"
)

// adminAddr is where the line "ready" says that the admin server listens.
func adminAddr(t *testing.T, stderr *output) string {
	t.Helper()
	stderr.await(t, " admin=http")
	return regexp.MustCompile(`admin=(https?://\S+)`).FindStringSubmatch(stderr.String())[1]
}

// The line "ready" and /readyz agree, and all parts of the file are among those that are asked.
func TestReadyzKnowsAllParts(t *testing.T) {
	t.Parallel()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	brokers := broker.Brokers()[0]
	defer broker.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	file, plain, secure := seedOnFreePorts(t)
	stderr := newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", file, "--listen", "127.0.0.1", "--brokers", brokers, "--create-topics", "--state-dir", t.TempDir()},
			newOutput(), stderr, environment())
	}()
	url := adminAddr(t, stderr)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got struct {
		Ready bool
		Parts []struct{ Name, Reason string }
	}
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range got.Parts {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"app", "kafka south_kafka_client", "state folder", "processor west_kafka_grpc_remote_server", "listener north_tcp_server 127.0.0.1:" + plain, "listener north_tcp_server 127.0.0.1:" + secure}) || response.StatusCode != http.StatusOK || !got.Ready {
		t.Errorf("after the line ready: %d %+v", response.StatusCode, got)
	}
	scrape, err := client.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer scrape.Body.Close()
	if text, err := io.ReadAll(scrape.Body); err != nil || !strings.Contains(string(text), "go_goroutines") {
		t.Errorf("/metrics: %v, %s %s", err, scrape.Status, text)
	}
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}

// Two instances on one machine: the second one says which flag helps.
func TestAdminAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stderr := newOutput()
	code := execute(t.Context(), []string{"run", "-c", seedFile(t), "--brokers", "127.0.0.1:1", "--admin-addr", l.Addr().String(), "--state-dir", t.TempDir()},
		newOutput(), stderr, environment())
	if code != 1 || !strings.Contains(stderr.String(), "--admin-addr") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// Where other machines can reach the address, Prometheus reads the metrics with the token, and nobody without it.
func TestMetricsNeedTheToken(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", "../../e2e/chaos/testdata/zilla.yaml", "--embedded-kafka", "--state-dir", t.TempDir(),
			"--admin-addr", ":0", "--admin-token-file", token}, newOutput(), stderr, environment("SERVICE_HOST", "127.0.0.1", "SERVICE_PORT", "1"))
	}()
	listening, err := url.Parse(adminAddr(t, stderr))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for given, want := range map[string]int{"": http.StatusUnauthorized, "wrong": http.StatusUnauthorized, "0123456789abcdef0123456789abcdef": http.StatusOK} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+listening.Port()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if given != "" {
			request.Header.Set("Authorization", "Bearer "+given)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("token %q: %s", given, response.Status)
		}
	}
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}
