package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/e2e/realkafka"
)

// example copies an example without Kafka, with the keystore that it wants.
func example(t testing.TB, name string) (file string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "deploy", "examples"))); err != nil {
		t.Fatal(err)
	}
	seed := t.TempDir()
	writeSeed(t, seed)
	if err := os.Rename(filepath.Join(seed, "tls"), filepath.Join(dir, name, "tls")); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name, "zilla.yaml")
}

// ports are those of the examples, with the flags of grpcurl for them.
var examplePorts = map[string][]string{plainAddress: {"-plaintext"}, tlsAddress: {"-insecure", "-authority", "localhost"}}

// grpcurl answers what is written to standard output, in one line.
func grpcurl(t testing.TB, flags []string, args ...string) string {
	t.Helper()
	stdout, stderr, code := output(t, exec.Command(binary(t, "grpcurl"), append(append([]string{"-max-time", "30"}, flags...), args...)...))
	if code != 0 {
		t.Errorf("grpcurl %s: exit code %d, stdout %s, stderr %s", strings.Join(args, " "), code, stdout, stderr)
	}
	return strings.Join(strings.Fields(stdout), " ")
}

// An echo binding answers calls of all kinds with their own messages.
func TestEchoExample(t *testing.T) {
	realkafka.Need(t)
	c := exec.Command(binary(t, "kafka-grpc"), "run", "-c", example(t, "echo"), "--listen", "127.0.0.1")
	c.Env = append(os.Environ(), "KEYSTORE_PASSWORD="+password, "KAFKA_GRPC_ADMIN_ADDR=127.0.0.1:0")
	run := start(t, c)
	run.await("ready ")
	for address, flags := range examplePorts {
		if got := grpcurl(t, flags, address, "list"); !strings.Contains(got, echo) {
			t.Errorf("the services are %s", got)
		}
		for _, call := range []struct{ method, data, want string }{
			{"UnaryEcho", `{"message":"hi"}`, `{ "message": "hi" }`},
			{"ServerStreamingEcho", `{"message":"hi"}`, `{ "message": "hi" }`},
			{"ClientStreamingEcho", `{"message":"one"}`, `{ "message": "one" }`},
			{"BidirectionalStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "one" } { "message": "two" }`},
		} {
			if got := grpcurl(t, flags, "-d", call.data, address, echo+"/"+call.method); got != call.want {
				t.Errorf("%s answers %s, not %s", call.method, got, call.want)
			}
		}
	}
	run.signal(os.Interrupt)
	if code := run.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, run.output())
	}
}

// A file without Kafka is a plain proxy: calls of all kinds pass, with their metadata, trailers and status.
func TestPlainProxy(t *testing.T) {
	realkafka.Need(t)
	file := example(t, "proxy")
	dir := filepath.Dir(file)
	service := start(t, exec.Command(binary(t, "echoservice")))
	host, port, err := net.SplitHostPort(strings.TrimPrefix(service.await("listening "), "listening "))
	if err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd {
		c := exec.Command(binary(t, "kafka-grpc"), append(args, "-c", file)...)
		c.Env = append(os.Environ(), "ECHO_SERVER_HOST="+host, "ECHO_SERVER_PORT="+port, "KEYSTORE_PASSWORD="+password, "KAFKA_GRPC_ADMIN_ADDR=127.0.0.1:0")
		return c
	}
	for want, args := range map[string][]string{"without Kafka": {"check"}, "http://" + net.JoinHostPort(host, port): {"check", "--connect"}} {
		if out, errs, code := output(t, command(args...)); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%v: exit code %d, %s%s", args, code, out, errs)
		}
	}
	proxy := start(t, command("run", "--listen", "127.0.0.1", "--state-dir", filepath.Join(dir, "state")))
	proxy.await("ready ")

	for address, flags := range examplePorts {
		if got := grpcurl(t, flags, address, "list"); !strings.Contains(got, echo) {
			t.Errorf("the services are %s", got)
		}
		if got := grpcurl(t, flags, address, "grpc.health.v1.Health/Check"); got != `{ "status": "SERVING" }` {
			t.Errorf("the health is %s", got)
		}
		for _, call := range []struct{ method, data, want string }{
			{"UnaryEcho", `{"message":"hi"}`, `{ "message": "hi" }`},
			{"ServerStreamingEcho", `{"message":"hi"}`, `{ "message": "hi" } { "message": "hi" } { "message": "hi" }`},
			{"ClientStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "one two" }`},
			{"BidirectionalStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "one" } { "message": "two" }`},
		} {
			if got := grpcurl(t, flags, "-d", call.data, address, echo+"/"+call.method); got != call.want {
				t.Errorf("%s answers %s, not %s", call.method, got, call.want)
			}
		}
	}

	// grpc-go.
	client := dial(t, plainAddress)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "echo-code", "NOT_FOUND")
	stream, err := client.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+echo+"/BidirectionalStreamingEcho")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var message []byte
	err = stream.RecvMsg(&message)
	if status.Code(err) != codes.NotFound || errors.Is(err, io.EOF) || strings.Join(stream.Trailer()["proof-bin"], "") != "\x00\xff" {
		t.Errorf("status %v, trailers %v", err, stream.Trailer())
	}
	// The service goes away: nothing is tried again, and the caller is told.
	service.kill()
	if r := client.begin("k", "x")(); status.Code(r.err) != codes.Unavailable {
		t.Errorf("without a service: %v", r.err)
	}
	proxy.signal(os.Interrupt)
	if code := proxy.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, proxy.output())
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a state folder: %v", err)
	}
}
