package preflight_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"kafkagrpc/cmd/kafka-grpc/preflight"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
)

func TestMain(m *testing.M) {
	// go-metrics, below sarama, starts one ticker for the whole process and has no way to stop it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const file = `name: x
vaults:
  v:
    type: filesystem
    options: {keys: {store: keys.p12, password: changeit}, trust: {store: trust.p12, password: changeit}}
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7153}, exit: tls0}
  tls0: {type: tls, kind: server, vault: v, options: {keys: [server]}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: requests, reply-to: replies}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0:
    type: kafka
    kind: client
    options: {servers: ["%[1]s"], sasl: {mechanism: scram-sha-256, username: ann, password: secret-word}}
    exit: tls1
  tls1: {type: tls, kind: client, vault: v, options: {trust: [ours]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    options: {table: {expiry: 168h}}
    routes:
      - exit: grpc1
        when: [{topic: requests, reply-to: replies}]
        with: {scheme: https, authority: echo.example}
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tls2}
  tls2: {type: tls, kind: client, vault: v, options: {trust: [ours]}, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: 127.0.0.1, port: %[2]s}}
`

type world struct {
	topology *topology.Topology
	cluster  *kfake.Cluster
	broker   string
	service  string
	health   *health.Server
}

func newWorld(t *testing.T, authority *pkitest.Authority, key tls.Certificate, brokerUntil time.Time, topics ...string) *world {
	t.Helper()
	w := &world{}
	options := []kfake.Opt{
		kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "ann", "secret-word"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{authority.IssueUntil(t, brokerUntil, "127.0.0.1")}}),
	}
	if len(topics) > 0 {
		options = append(options, kfake.SeedTopics(3, topics...))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w.cluster = cluster
	w.broker = cluster.ListenAddrs()[0]

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.service = l.Addr().String()
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "echo.example")}})))
	w.health = health.NewServer()
	healthpb.RegisterHealthServer(server, w.health)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})

	dir := t.TempDir()
	pkitest.WriteKey(t, filepath.Join(dir, "keys.p12"), key)
	pkitest.WriteTrust(t, filepath.Join(dir, "trust.p12"), map[string]*x509.Certificate{"ours": authority.Certificate})
	path := filepath.Join(dir, "zilla.yaml")
	_, port, err := net.SplitHostPort(w.service)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, file, w.broker, port), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.topology, err = topology.Load(path, topology.Options{}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) run(t *testing.T) []preflight.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := preflight.Run(ctx, w.topology)
	for _, f := range found {
		if text := fmt.Sprint(f); strings.Contains(text, "secret-word") || strings.Contains(text, "changeit") {
			t.Errorf("a password shows in %s", text)
		}
	}
	return found
}

// expect checks that the findings are these: what, result, and a part of name and detail.
func expect(t *testing.T, found []preflight.Finding, want ...[3]string) {
	t.Helper()
	if len(found) != len(want) {
		t.Errorf("%d findings, want %d: %v", len(found), len(want), found)
	}
	for i, w := range want {
		if i < len(found) && (found[i].What != w[0] || string(found[i].Result) != w[1] || !strings.Contains(found[i].Name+": "+found[i].Detail, w[2])) {
			t.Errorf("finding %d is %v, want %v", i, found[i], w)
		}
	}
}

func TestAllIsWell(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	w := newWorld(t, authority, authority.Issue(t, "server.example"), time.Now().Add(100*24*time.Hour), "requests", "replies")
	expect(t, w.run(t),
		[3]string{"certificate", "ok", "tcp0 CN=server.example: expires in 89 days"},
		[3]string{"broker", "ok", w.broker + " of kafka0: answers, SASL SCRAM-SHA-256, TLS 1.3, its certificate expires in 99 days"},
		[3]string{"topic", "ok", "requests: 3 partitions, records up to 1048527 bytes"},
		[3]string{"topic", "ok", "replies: 3 partitions"},
		[3]string{"topic", "ok", "x-remote0-table: does not exist; run creates it"},
		[3]string{"topic", "ok", "x-remote0-loop: does not exist; run creates it"},
		[3]string{"topic", "ok", "x-remote0-dead-letters: does not exist; run creates it"},
		[3]string{"target", "ok", "https://" + w.service + " (authority echo.example): SERVING, TLS 1.3, its certificate expires in 89 days"})
}

func TestWhatIsWrong(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	w := newWorld(t, authority, authority.IssueUntil(t, time.Now().Add(-30*time.Hour), "server.example"), time.Now().Add(3*24*time.Hour+time.Hour), "replies")
	w.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	expect(t, w.run(t),
		[3]string{"certificate", "FAILED", "expired 1 days ago"},
		[3]string{"broker", "warn", "its certificate expires in 3 days"},
		[3]string{"topic", "ok", "replies: 3 partitions"},
		[3]string{"topic", "ok", "x-remote0-table"},
		[3]string{"topic", "ok", "x-remote0-loop"},
		[3]string{"topic", "ok", "x-remote0-dead-letters"},
		[3]string{"topic", "FAILED", `request topic "requests" does not exist`},
		[3]string{"target", "FAILED", "NOT_SERVING"})
}

func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	authority, stranger := pkitest.NewAuthority(t, "authority"), pkitest.NewAuthority(t, "stranger")
	w := newWorld(t, authority, authority.Issue(t, "server.example"), time.Now().Add(100*24*time.Hour))
	c := w.topology.Clusters()[0]
	c.TLS.Config.RootCAs = stranger.Pool()
	c.Brokers = append(c.Brokers, "127.0.0.1:1")
	w.topology.Remotes[0].Routes[0].Target.Address = "127.0.0.1:1"
	expect(t, w.run(t),
		[3]string{"certificate", "ok", "tcp0"},
		[3]string{"broker", "FAILED", "nobody whom the tls client binding trusts"},
		[3]string{"broker", "FAILED", "connection refused"},
		[3]string{"target", "FAILED", "connection refused"})
}

// What the topics take is shown, and named where it does not go together.
func TestLimits(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	w := newWorld(t, authority, authority.Issue(t, "server.example"), time.Now().Add(100*24*time.Hour), "replies")
	for topic, bytes := range map[string]string{"requests": "4194304", "x-remote0-table": "2097152", "x-remote0-dead-letters": "1048588", "x-remote0-loop": "1000"} {
		policy := "delete"
		if topic == "x-remote0-table" {
			policy = "compact"
		}
		if err := w.cluster.CreateTopic(topic, 3, map[string]string{"max.message.bytes": bytes, "cleanup.policy": policy}); err != nil {
			t.Fatal(err)
		}
	}
	w.topology.Remotes[0].MaxResult = 3 << 20
	topics := func(limits ...[3]string) [][3]string {
		return append(append([][3]string{
			{"certificate", "ok", ""}, {"broker", "ok", ""},
			{"topic", "ok", "requests: 3 partitions, records up to 4194243 bytes"},
			{"topic", "ok", "replies: 3 partitions, records up to 1048527 bytes"},
			{"topic", "ok", "x-remote0-table: 3 partitions, records up to 2097091 bytes"},
			{"topic", "ok", "x-remote0-loop: 3 partitions, records up to "},
			{"topic", "ok", "x-remote0-dead-letters: 3 partitions, records up to 1048527 bytes"},
		}, limits...), [3]string{"target", "ok", ""})
	}
	expect(t, w.run(t), topics([3]string{"limit", "FAILED", "of remote0: topic x-remote0-loop takes records of 939 bytes, which is too small"})...)
	if err := w.cluster.DeleteTopic("x-remote0-loop"); err != nil {
		t.Fatal(err)
	}
	if err := w.cluster.CreateTopic("x-remote0-loop", 3, map[string]string{"max.message.bytes": "5000000", "cleanup.policy": "delete"}); err != nil {
		t.Fatal(err)
	}
	expect(t, w.run(t), topics(
		[3]string{"limit", "warn", "table.max-result (3145728) is more than topic x-remote0-table has room for (2079683)"},
		[3]string{"limit", "warn", "table.max-result (3145728) is more than topic replies has room for (1031119)"},
		[3]string{"limit", "warn", "topic x-remote0-dead-letters takes records of 1048527 bytes, fewer than request topic requests (4194243)"})...)
}

// A topic that keeps requests for longer than the table their results is a warning: lost offsets would execute them again.
func TestRequestsThatOutliveTheirResults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, retention string
		expiry, maxAge  time.Duration
		want            string // of the finding of the request topic; "": it is fine
	}{
		{"defaults of Kafka and ours", "", 24 * time.Hour, 0, "requests: 3 partitions, records up to 1048527 bytes; it keeps requests for 168h0m0s, and the table their results for 24h0m0s"},
		{"no limit", "-1", 24 * time.Hour, 0, "it keeps requests for good, and the table"},
		{"as long", "86400000", 24 * time.Hour, 0, ""},
		{"longer results", "", 200 * time.Hour, 0, ""},
		{"bounded", "-1", 24 * time.Hour, 24 * time.Hour, ""},
		{"bounded too far", "-1", 24 * time.Hour, 25 * time.Hour, "set processing.max-age to 24h0m0s or less"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			authority := pkitest.NewAuthority(t, "authority")
			w := newWorld(t, authority, authority.Issue(t, "server.example"), time.Now().Add(100*24*time.Hour), "requests", "replies")
			if test.retention != "" {
				if err := w.cluster.DeleteTopic("requests"); err != nil {
					t.Fatal(err)
				}
				if err := w.cluster.CreateTopic("requests", 3, map[string]string{"retention.ms": test.retention}); err != nil {
					t.Fatal(err)
				}
			}
			r := &w.topology.Remotes[0]
			r.Expiry, r.Processing.MaxAge = test.expiry, test.maxAge
			level := "ok"
			if test.want != "" {
				level = "warn"
			}
			expect(t, w.run(t)[2:3], [3]string{"topic", level, cmp.Or(test.want, "requests: 3 partitions")})
		})
	}
}

// Exactly once needs transactions, which brokers may lack.
func TestTransactions(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	w := newWorld(t, authority, authority.Issue(t, "server.example"), time.Now().Add(100*24*time.Hour), "requests", "replies")
	w.topology.Remotes[0].Processing.Guarantee = topology.GuaranteeExactlyOnce
	ids := make(chan string, 2)
	var refused atomic.Bool
	w.cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		ids <- *r.(*kmsg.InitProducerIDRequest).TransactionalID
		if !refused.Load() {
			return nil, nil, false
		}
		answer := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		answer.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return answer, nil, true
	})
	expect(t, w.run(t)[7:], [3]string{"transactions", "ok", "of remote0: can be had"}, [3]string{"target", "ok", ""})
	refused.Store(true)
	expect(t, w.run(t)[7:], [3]string{"transactions", "FAILED", "of remote0: transactions of id x-remote0-check"}, [3]string{"target", "ok", ""})
	if first, second := <-ids, <-ids; first != "x-remote0-check" || second != first {
		t.Errorf("tried %s and %s", first, second)
	}
}

// A topic may have more partitions than the group's table.
func TestMorePartitionsThanTheTable(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	w := newWorld(t, authority, authority.Issue(t, "server.example"), time.Now().Add(100*24*time.Hour), "requests", "replies")
	if err := w.cluster.CreateTopic("x-remote0-table", 2, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	expect(t, w.run(t)[2:5],
		[3]string{"topic", "ok", "requests: 3 partitions, records up to 1048527 bytes, and the group has 2: what comes in the further ones goes through the loop topic"},
		[3]string{"topic", "ok", "replies: 3 partitions"},
		[3]string{"topic", "ok", "x-remote0-table: 2 partitions"})
}
