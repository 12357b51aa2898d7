package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/pkitest"
	"kafkagrpc/wire/rawcodec"
)

// secureFile secures every connection there is: clients in front, Kafka, and the service.
const secureFile = `name: secure
vaults:
  front:
    type: filesystem
    options: {keys: {store: front.p12, password: changeit}, trust: {store: trust.p12, password: changeit}}
  back:
    type: filesystem
    options: {keys: {store: back.p12, password: changeit}, trust: {store: trust.p12, password: changeit}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: %[1]s}, exit: tls0}
  tls0: {type: tls, kind: server, vault: front, options: {keys: [front], sni: [front.example], trust: [ours], mutual: required}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: requests, reply-to: replies}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0:
    type: kafka
    kind: client
    options: {servers: ["127.0.0.1:1", "%[2]s"], sasl: {mechanism: scram-sha-512, username: ann, password: "${{env.KAFKA_PASSWORD}}"}}
    exit: tls1
  tls1: {type: tls, kind: client, vault: back, options: {trust: [ours], keys: [back]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    routes:
      - exit: grpc1
        when: [{topic: requests, reply-to: replies, method: secure.Echo/*}]
        with: {scheme: https, authority: service.example}
      - exit: grpc2
        when: [{topic: requests, reply-to: replies}]
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tls2}
  tls2: {type: tls, kind: client, vault: back, options: {trust: [ours], keys: [back]}, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %[3]s}}
  grpc2: {type: grpc, kind: client, exit: http2}
  http2: {type: http, kind: client, exit: tcp3}
  tcp3: {type: tcp, kind: client, options: {host: "unix:%[4]s"}}
`

func TestEverythingIsSecure(t *testing.T) {
	t.Parallel()
	ours, strangers := pkitest.NewAuthority(t, "ours"), pkitest.NewAuthority(t, "strangers")
	mutual := func(name string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ours.Issue(t, name)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()}
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "ann", "secret-word"),
		kfake.SeedTopics(2, "requests", "replies"), kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}),
		kfake.TLS(mutual("127.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()

	dir := t.TempDir()
	socket := filepath.Join(dir, "echo.sock")
	service := echoOn(t, "tcp", "127.0.0.1:0", "service", grpc.Creds(credentials.NewTLS(mutual("service.example"))))
	echoOn(t, "unix", socket, "socket")
	_, servicePort, err := net.SplitHostPort(service)
	if err != nil {
		t.Fatal(err)
	}
	front := freePort(t)
	file := filepath.Join(dir, "zilla.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, secureFile, front, cluster.ListenAddrs()[0], servicePort, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	pkitest.WriteKey(t, filepath.Join(dir, "front.p12"), ours.Issue(t, "front.example"))
	pkitest.WriteKey(t, filepath.Join(dir, "back.p12"), ours.Issue(t, "back.example"))
	pkitest.WriteTrust(t, filepath.Join(dir, "trust.p12"), map[string]*x509.Certificate{"ours": ours.Certificate, "strangers": strangers.Certificate})

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log := newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", file, "--state-dir", filepath.Join(dir, "state"), "--log-level", "debug"}, log, log, environment("KAFKA_PASSWORD", "secret-word"))
	}()
	log.await(t, "ready ")

	client := ours.Issue(t, "client")
	address := net.JoinHostPort("127.0.0.1", front)
	as := func(trust *pkitest.Authority, certificates ...tls.Certificate) *tls.Config {
		return &tls.Config{ServerName: "front.example", RootCAs: trust.Pool(), Certificates: certificates}
	}
	if text, err := ask(t, address, as(ours, client), "secure.Echo/Ask"); text != "service" {
		t.Errorf("through TLS to the service: %q, %v", text, err)
	}
	if text, err := ask(t, address, as(ours, client), "other.Echo/Ask"); text != "socket" {
		t.Errorf("to the service on a socket: %q, %v", text, err)
	}
	for name, config := range map[string]*tls.Config{
		"no certificate": as(ours), "a stranger's": as(ours, strangers.Issue(t, "client")),
	} {
		if _, err := ask(t, address, config, "secure.Echo/Ask"); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want UNAVAILABLE", name, err)
		}
	}

	// The server's key is changed, and its process is not.
	pkitest.WriteKey(t, filepath.Join(dir, "front.p12"), strangers.Issue(t, "front.example"))
	if text, err := ask(t, address, as(strangers, client), "secure.Echo/Ask"); text != "service" {
		t.Errorf("with the new certificate: %q, %v", text, err)
	}

	stop()
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d: %s", got, log)
	}
	for _, secret := range []string{"secret-word", "changeit"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// echoOn serves every method with one answer.
func echoOn(t *testing.T, network, address, answer string, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(append(options, grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			return err
		}
		reply := []byte(answer)
		return stream.SendMsg(&reply)
	}))...)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ask makes one call on a connection of its own.
func ask(t *testing.T, address string, config *tls.Config, method string) (string, error) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", rand.Text()), patience)
	defer cancel()
	var message, reply []byte
	err = conn.Invoke(ctx, "/"+method, &message, &reply, grpc.ForceCodecV2(rawcodec.Codec{}))
	return string(reply), err
}
