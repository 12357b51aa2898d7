package topology_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// seed is the file that must run unchanged.
const seed = "testdata/seed/zilla.yaml"

var seedEnv = map[string]string{"KEYSTORE_PASSWORD": "changeit", "ECHO_SERVER_HOST": "echo", "ECHO_SERVER_PORT": "8080"}

func loadSeed(t *testing.T, o topology.Options) *topology.Topology {
	t.Helper()
	o.LookupEnv = lookup(seedEnv)
	got, err := topology.Load(seed, o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSeedMeansWhatItSays(t *testing.T) {
	t.Parallel()
	got := loadSeed(t, topology.Options{})

	if got.File != seed || got.Namespace != "example" {
		t.Errorf("file %q, namespace %q", got.File, got.Namespace)
	}
	if n := len(got.Listeners); n != 2 {
		t.Fatalf("%d listeners, want 2", n)
	}
	plain, secure := got.Listeners[0], got.Listeners[1]
	if plain.Address() != "0.0.0.0:7151" || plain.TLS != nil {
		t.Errorf("first listener: %s, TLS %v", plain.Address(), plain.TLS)
	}
	if secure.Address() != "0.0.0.0:7153" || secure.TLS == nil {
		t.Fatalf("second listener: %s, TLS %v", secure.Address(), secure.TLS)
	}
	if diff := cmp.Diff([]string{"localhost"}, secure.TLS.ServerNames); diff != "" {
		t.Errorf("server names: %s", diff)
	}
	if diff := cmp.Diff([]string{"h2"}, secure.TLS.ALPN); diff != "" {
		t.Errorf("ALPN: %s", diff)
	}
	if len(secure.TLS.Certificates) != 1 {
		t.Errorf("%d certificates, want 1", len(secure.TLS.Certificates))
	}

	cluster := &topology.Cluster{Binding: "south_kafka_client", Brokers: []string{"kafka:29092"}}
	pattern := topology.MethodPattern("grpc.examples.echo.Echo/*")
	north := []topology.NorthRoute{{
		Binding: "north_grpc_kafka_mapping", Methods: []topology.MethodPattern{pattern, pattern},
		Cluster: cluster, Topic: "echo-requests", ReplyTo: "echo-responses", Contract: wire.DefaultContract(),
	}}
	for _, l := range got.Listeners {
		if diff := cmp.Diff(north, l.Routes); diff != "" {
			t.Errorf("routes of %s (-want +got):\n%s", l.Address(), diff)
		}
	}

	remotes := []topology.Remote{{
		Binding: "west_kafka_grpc_remote_server",
		Group:   "example-west_kafka_grpc_remote_server",
		Table:   "example-west_kafka_grpc_remote_server-table",
		Loop:    "example-west_kafka_grpc_remote_server-loop",
		Cluster: cluster,
		Routes: []topology.RemoteRoute{{
			Topic: "echo-requests", ReplyTo: "echo-responses", Methods: []topology.MethodPattern{pattern, pattern},
			GRPC: "west_grpc_client", Target: topology.Target{Scheme: "http", Authority: "echo:8080", Address: "echo:8080", MaxMessage: 4 << 20, RatePer: time.Second},
		}},
		Contract: wire.DefaultContract(),
		Processing: topology.Processing{
			MaxInFlight: 1000, MaxInFlightBytes: 64 << 20, MaxInFlightTotal: 10_000, MaxInFlightTotalBytes: 256 << 20,
			Timeout: 30 * time.Second, StreamIdle: 5 * time.Minute, Drain: 10 * time.Second,
			RetryCodes: []codes.Code{codes.Unavailable}, DeadLetter: "example-west_kafka_grpc_remote_server-dead-letters",
			RetryInitial: 50 * time.Millisecond, RetryMax: 10 * time.Second, RetryMaxElapsed: 10 * time.Minute, RetryParkAfter: time.Minute,
			TransactionMax: 100 * time.Millisecond, TransactionMaxBytes: 16 << 20,
			BreakerFailures: 20, BreakerOpen: 5 * time.Second,
		},
		Expiry: 24 * time.Hour, MaxResult: 900 * 1024,
	}}
	if diff := cmp.Diff(remotes, got.Remotes); diff != "" {
		t.Errorf("remotes (-want +got):\n%s", diff)
	}
	if got.Listeners[0].Routes[0].Cluster != got.Remotes[0].Cluster {
		t.Error("the listeners and the remote have clusters of their own, want one")
	}

	methods := topology.Methods{
		"grpc.examples.echo.Echo/UnaryEcho":                  {},
		"grpc.examples.echo.Echo/ServerStreamingEcho":        {ServerStreams: true},
		"grpc.examples.echo.Echo/ClientStreamingEcho":        {ClientStreams: true},
		"grpc.examples.echo.Echo/BidirectionalStreamingEcho": {ClientStreams: true, ServerStreams: true},
	}
	if diff := cmp.Diff(methods, got.Methods); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
}

func TestSeedReportsEachUnsetVariable(t *testing.T) {
	t.Parallel()
	_, err := topology.Load(seed, topology.Options{LookupEnv: lookup(nil)})
	if err == nil {
		t.Fatal("loaded without its variables")
	}
	for _, want := range []string{
		seed + ":17:19: environment variable `KEYSTORE_PASSWORD` is not set",
		seed + ":109:22: environment variable `ECHO_SERVER_HOST` is not set",
		seed + ":109:22: environment variable `ECHO_SERVER_PORT` is not set",
		seed + ":128:13: environment variable `ECHO_SERVER_HOST` is not set",
		seed + ":129:13: environment variable `ECHO_SERVER_PORT` is not set",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 5 {
		t.Errorf("%d problems, want 5:\n%v", n, err)
	}
}

func TestOptionsReplaceAddresses(t *testing.T) {
	t.Parallel()
	got := loadSeed(t, topology.Options{Brokers: []string{"127.0.0.1:9092", "[::1]:9093"}, Listen: "127.0.0.1"})
	for i, want := range []string{"127.0.0.1:7151", "127.0.0.1:7153"} {
		if a := got.Listeners[i].Address(); a != want {
			t.Errorf("listener %d is on %s, want %s", i, a, want)
		}
	}
	for _, c := range got.Clusters() {
		if diff := cmp.Diff([]string{"127.0.0.1:9092", "[::1]:9093"}, c.Brokers); diff != "" {
			t.Errorf("brokers of %s: %s", c.Binding, diff)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := topology.Load(seed, topology.Options{Brokers: []string{"kafka"}, Listen: "127.0.0.1:80", LookupEnv: lookup(seedEnv)})
	want := seed + ": the broker `kafka` that replaces `servers` must be host:port, such as kafka:9092 or [::1]:9092\n" +
		seed + ": the host `127.0.0.1:80` that replaces `host` of tcp servers must be a host name or an IP address without a port"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
