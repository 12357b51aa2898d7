package containers_test

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Where Kafka is, for the instances and for this process.
const (
	kafkaName     = "kafka"
	kafkaInside   = "kafka:9092"
	kafkaReady    = time.Minute
	loopback      = "127.0.0.1"
	kafkaOutPort  = "9093/tcp"
	formattedOnce = "kafka-grpc-e2e-node-01"
)

// startKafka runs Kafka in a container and answers its address for this process.
func startKafka(t *testing.T, in *testcontainers.DockerNetwork) string {
	t.Helper()
	port := freePort(t)
	outside := net.JoinHostPort(loopback, port)
	c, err := testcontainers.Run(t.Context(), kafkaImage(t),
		testcontainers.WithLabels(map[string]string{label: session}),
		tcnetwork.WithNetwork([]string{kafkaName}, in),
		publish(kafkaOutPort, port),
		testcontainers.WithEnv(map[string]string{
			"CLUSTER_ID":                                     formattedOnce,
			"KAFKA_NODE_ID":                                  "1",
			"KAFKA_PROCESS_ROLES":                            "broker,controller",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@127.0.0.1:9094",
			"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
			"KAFKA_INTER_BROKER_LISTENER_NAME":               "INSIDE",
			"KAFKA_LISTENERS":                                "INSIDE://0.0.0.0:9092,OUTSIDE://0.0.0.0:9093,CONTROLLER://127.0.0.1:9094",
			"KAFKA_ADVERTISED_LISTENERS":                     "INSIDE://" + kafkaInside + ",OUTSIDE://" + outside,
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":           "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
			"KAFKA_LOG_DIRS":                                 "/tmp/kafka",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
			"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":             "4",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0",
		}))
	testcontainers.CleanupContainer(t, c, testcontainers.StopTimeout(0))
	must(t, err)
	asking, err := kgo.NewClient(kgo.SeedBrokers(outside))
	must(t, err)
	defer asking.Close()
	ctx, cancel := context.WithTimeout(t.Context(), kafkaReady)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := asking.Ping(ctx)
		if err == nil {
			return outside
		}
		if state, gone := c.State(ctx); gone == nil && !state.Running {
			t.Fatalf("Kafka ended with exit code %d\n%s", state.ExitCode, logs(t, c))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("Kafka did not answer on %s within %v: %v\n%s", outside, kafkaReady, err, logs(t, c))
		}
	}
}

// publish makes a port of a container reachable on loopback, and nowhere else.
func publish(inside, outside string) testcontainers.CustomizeRequestOption {
	return func(r *testcontainers.GenericContainerRequest) error {
		r.ExposedPorts = []string{inside} // bindings of other ports are dropped
		return testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.PortBindings = network.PortMap{network.MustParsePort(inside): {{HostIP: netip.MustParseAddr(loopback), HostPort: outside}}}
		}).Customize(r)
	}
}

// ports are below those that systems take for outgoing connections: one is not taken while its container restarts.
var ports = sync.OnceValue(func() *atomic.Int32 {
	first := new(atomic.Int32)
	first.Store(20000 + rand.Int32N(9000))
	return first
})

// freePort is one that a container can have, over its restarts. No two are the same.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(int(ports().Add(1)))
		if l, err := net.Listen("tcp", net.JoinHostPort(loopback, port)); err == nil {
			must(t, l.Close())
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// newNetwork makes a bridge, and answers the address of this machine on it.
func newNetwork(t *testing.T) (*testcontainers.DockerNetwork, string) {
	t.Helper()
	docker, err := engine()
	must(t, err)
	n, err := tcnetwork.New(t.Context(), tcnetwork.WithLabels(map[string]string{label: session}))
	must(t, err)
	testcontainers.CleanupNetwork(t, n)
	found, err := docker.NetworkInspect(t.Context(), n.ID, client.NetworkInspectOptions{})
	must(t, err)
	if len(found.Network.IPAM.Config) == 0 {
		t.Fatalf("network %s has no address of this machine", n.Name)
	}
	return n, found.Network.IPAM.Config[0].Gateway.String()
}
