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

// directFile is a proxy in front of a gRPC service, with TLS and without. There is no Kafka.
const directFile = `name: example
vaults:
  my_servers:
    type: filesystem
    options:
      keys: {store: tls/localhost.p12, type: pkcs12, password: "${{env.KEYSTORE_PASSWORD}}"}
catalogs:
  host_filesystem:
    type: filesystem
    options:
      subjects:
        echo: {path: proto/echo.proto}
bindings:
  north_tcp_server:
    type: tcp
    kind: server
    options: {host: 0.0.0.0, port: [7151, 7153]}
    routes:
      - when: [{port: 7151}]
        exit: north_http_server
      - when: [{port: 7153}]
        exit: north_tls_server
  north_tls_server:
    type: tls
    kind: server
    vault: my_servers
    options: {keys: [localhost], sni: [localhost], alpn: [h2]}
    exit: north_http_server
  north_http_server:
    type: http
    kind: server
    options: {versions: [h2]}
    exit: north_grpc_server
  north_grpc_server:
    type: grpc
    kind: server
    catalog:
      host_filesystem: [{subject: echo}]
    routes:
      - when: [{method: grpc.examples.echo.Echo/*}]
        exit: south_grpc_client
  south_grpc_client:
    type: grpc
    kind: client
    exit: south_http_client
  south_http_client:
    type: http
    kind: client
    options: {versions: [h2]}
    exit: south_tcp_client
  south_tcp_client:
    type: tcp
    kind: client
    options: {host: "${{env.ECHO_SERVER_HOST}}", port: "${{env.ECHO_SERVER_PORT}}"}
`

// A file without Kafka is a plain proxy: calls of all kinds pass, with their metadata, trailers and status.
func TestPlainProxy(t *testing.T) {
	realkafka.Need(t)
	dir := t.TempDir()
	writeSeed(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "zilla.yaml"), []byte(directFile), 0o600); err != nil {
		t.Fatal(err)
	}
	service := start(t, exec.Command(binary(t, "echoservice")))
	host, port, err := net.SplitHostPort(strings.TrimPrefix(service.await("listening "), "listening "))
	if err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd {
		c := exec.Command(binary(t, "kafka-grpc"), append(args, "-c", filepath.Join(dir, "zilla.yaml"))...)
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

	for address, flags := range map[string][]string{plainAddress: {"-plaintext"}, tlsAddress: {"-insecure", "-authority", "localhost"}} {
		grpcurl := func(args ...string) string {
			t.Helper()
			stdout, stderr, code := output(t, exec.Command(binary(t, "grpcurl"), append(append([]string{"-max-time", "30"}, flags...), args...)...))
			if code != 0 {
				t.Errorf("grpcurl %s: exit code %d, stdout %s, stderr %s", strings.Join(args, " "), code, stdout, stderr)
			}
			return strings.Join(strings.Fields(stdout), " ")
		}
		if got := grpcurl(address, "list"); !strings.Contains(got, echo) {
			t.Errorf("the services are %s", got)
		}
		if got := grpcurl(address, "grpc.health.v1.Health/Check"); got != `{ "status": "SERVING" }` {
			t.Errorf("the health is %s", got)
		}
		for _, call := range []struct{ method, data, want string }{
			{"UnaryEcho", `{"message":"hi"}`, `{ "message": "hi" }`},
			{"ServerStreamingEcho", `{"message":"hi"}`, `{ "message": "hi" } { "message": "hi" } { "message": "hi" }`},
			{"ClientStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "one two" }`},
			{"BidirectionalStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "one" } { "message": "two" }`},
		} {
			if got := grpcurl("-d", call.data, address, echo+"/"+call.method); got != call.want {
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
