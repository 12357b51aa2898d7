package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/wire/rawcodec"
)

// oddly is a service that answers with what it got, and with other than printable ASCII wherever gRPC lets it.
func oddly(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		ctx := stream.Context()
		name, _ := grpc.MethodFromServerStream(stream)
		md, _ := metadata.FromIncomingContext(ctx)
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			return err
		}
		if err := grpc.SetHeader(ctx, metadata.MD{"x-got": md["x-user"], "x-got!": md["x-user!"], "x-method": {name}}); err != nil {
			return err
		}
		if err := grpc.SetTrailer(ctx, metadata.Pairs("x-reason", "café", "x-reason", "caf\xe9", "x-tab", "a\tb", "x-bin", "\x00\xff")); err != nil {
			return err
		}
		if string(message) == string(echoMessage("bad")) {
			return status.Error(codes.NotFound, "no café")
		}
		return stream.SendMsg(&message)
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

// What peers send beside ASCII goes through the whole program as through a call without it, at once and from the table; and
// whoever asks what happened is told.
func TestTextThroughTheProgram(t *testing.T) {
	service := oddly(t)
	collector := newSpans(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	file, plain, _ := seedOnFreePorts(t)
	host, port, err := net.SplitHostPort(service)
	if err != nil {
		t.Fatal(err)
	}
	env := environment("ECHO_SERVER_HOST", host, "ECHO_SERVER_PORT", port)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{
			"run", "-c", file, "--brokers", broker.Brokers()[0], "--create-topics=1", "--state-dir", filepath.Join(t.TempDir(), "state"),
		}, out, out, env)
	}()
	out.await(t, "ready ")

	client := grpcout.New(grpcout.Options{})
	call := func(address, method, key, text string) grpcout.Result {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return client.Unary(ctx, grpcout.Target{Scheme: "http", Address: address}, grpcout.Call{
			Method: method, Message: echoMessage(text),
			Metadata: metadata.MD{"idempotency-key": {key}, "x-user": {"café", "caf\xe9", " plain "}, "x-user!": {"a\tb"}},
		})
	}
	const key = "café \xff"
	for _, method := range []string{demoMethod, "grpc.examples.echo.Echo/Caf\xc3\xa9\xff"} {
		for _, text := range []string{"good", "bad"} {
			want := call(service, method, key+text, text)
			for _, how := range []string{"at once", "from the table"} {
				if diff := cmp.Diff(want, call("127.0.0.1:"+plain, method, key+text, text)); diff != "" {
					t.Errorf("%q, %s, %s (-direct +through the program):\n%s", method, text, how, diff)
				}
			}
		}
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}

	admin := adminAddr(t, out)
	b := &lettersBench{t: t, env: env}
	address := strings.TrimPrefix(admin, "http://")
	// The last of them: views are some moments behind.
	list := b.await(address, "bad-cc22117c7a33714e865bf88f753e192f", "list")
	if n := strings.Count(list, `"café \xffgood-`) + strings.Count(list, `"café \xffbad-`); n != 4 {
		t.Errorf("the list names %d keys, not 4:\n%s", n, list)
	}
	var keys []string
	for line := range strings.Lines(first(b.keys(address, 0, "list", "-o", "json", "--prefix", "café "))) {
		var e struct{ RawKey []byte }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(e.RawKey))
	}
	if len(keys) != 4 || !slices.IsSorted(keys) || !strings.HasPrefix(keys[0], key+"bad-") {
		t.Fatalf("keys %q", keys)
	}
	for _, k := range keys {
		if story := first(b.keys(address, 0, "get", k)); !strings.Contains(story, "x-reason: café") || !strings.Contains(story, `"café \xff`) {
			t.Errorf("the story of %q:\n%s", k, story)
		}
		response, err := http.Get(admin + "/v1/keys/" + url.PathEscape(k))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Entry struct {
				Trailers []struct{ Name, Value string }
			}
		}
		err = json.NewDecoder(response.Body).Decode(&got)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || len(got.Entry.Trailers) != 4 {
			t.Errorf("%q: %d, %v, %+v", k, response.StatusCode, err, got)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	b.keys(address, exitUsage, "list", "--prefix", key)

	stop()
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d: %s", got, out)
	}
	collector.mu.Lock()
	defer collector.mu.Unlock()
	if n := len(collector.got); n < 8*4 {
		t.Errorf("%d spans of 8 calls were exported", n)
	}
}

func first(out, _ string) string { return out }
