package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/wire/rawcodec"
)

// The bindings of a file that selects grpc.* record unary and streamed calls under the names of the file: the server each call,
// the client each call of the service, which a duplicate is none of.
func TestBindingsRecordTheMetricsOfTheFile(t *testing.T) {
	t.Parallel()
	file, plain, _ := seedOnFreePorts(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const kind = "    type: grpc\n    kind: "
	selecting := strings.NewReplacer(
		kind+"server\n", kind+"server\n    telemetry: {metrics: [grpc.*]}\n",
		kind+"client\n", kind+"client\n    telemetry: {metrics: [grpc.*]}\n",
		"telemetry:\n", "telemetry:\n  metrics: [grpc.active.requests, grpc.duration, grpc.request.size, grpc.response.size, grpc.requests.per.rpc, grpc.responses.per.rpc]\n",
	).Replace(string(text))
	if err := os.WriteFile(file, []byte(selecting), 0o600); err != nil {
		t.Fatal(err)
	}
	echo, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := echo.Close(); err != nil {
			t.Error(err)
		}
	}()
	host, port, err := net.SplitHostPort(echo.Addr())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	defer stop()
	stderr, code := newOutput(), make(chan int, 1)
	go func() {
		code <- execute(running, []string{"run", "-c", file, "--listen", "127.0.0.1", "--embedded-kafka", "--state-dir", t.TempDir()},
			newOutput(), stderr, environment("ECHO_SERVER_HOST", host, "ECHO_SERVER_PORT", port))
	}()
	admin := adminAddr(t, stderr)

	conn, err := grpc.NewClient("127.0.0.1:"+plain, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		method, key       string
		requests, replies int
	}{
		{"UnaryEcho", "a", 1, 1},
		{"UnaryEcho", "a", 1, 1},
		{"ServerStreamingEcho", "b", 1, 3},
		{"ClientStreamingEcho", "c", 2, 1},
		{"BidirectionalStreamingEcho", "d", 2, 2},
	} {
		stream, err := conn.NewStream(metadata.AppendToOutgoingContext(ctx, "idempotency-key", c.key),
			&grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/grpc.examples.echo.Echo/"+c.method, grpc.ForceCodecV2(rawcodec.Codec{}))
		if err != nil {
			t.Fatal(err)
		}
		for range c.requests {
			message := echoMessage("hi") // 4 bytes
			if err := stream.SendMsg(&message); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		replies := 0
		for ; err == nil; replies++ {
			var reply []byte
			err = stream.RecvMsg(&reply)
		}
		if replies--; !errors.Is(err, io.EOF) || replies != c.replies {
			t.Fatalf("%s: %d replies, then %v", c.method, replies, err)
		}
	}

	var want []string
	for binding, values := range map[string]map[string]string{
		"north_grpc_server": {
			"active_requests": "0", "duration_seconds_count": "5", "request_size_bytes_sum": "28", "response_size_bytes_sum": "35",
			"requests_per_rpc_sum": "7", "responses_per_rpc_sum": "8",
		},
		"west_grpc_client": {
			"active_requests": "0", "duration_seconds_count": "4", "request_size_bytes_sum": "24", "response_size_bytes_sum": "31",
			"requests_per_rpc_sum": "6", "responses_per_rpc_sum": "7",
		},
	} {
		for name, value := range values {
			want = append(want, "\ngrpc_"+name+`{binding="`+binding+`",namespace="example"} `+value+"\n")
		}
	}
	// A server counts a call out after its caller has the status.
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		got := scrape(ctx, t, admin)
		missing := ""
		for _, line := range want {
			if !strings.Contains(got, line) {
				missing = line
			}
		}
		if missing == "" {
			tick.Stop()
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("no %s in %s", missing, got)
		}
	}
	stop()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}

func scrape(ctx context.Context, t *testing.T, admin string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
