package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/grpcin"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire/rawcodec"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One for the whole process, started by sarama's metrics and never stopped.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// Ends by itself within a second after its store is closed; Close does not wait for it.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
	)
}

const (
	patience   = time.Minute
	partitions = 4
	requests   = "echo-requests"
	replies    = "echo-responses"
)

// A floor that wrote less than the program would be no floor.
func TestFloorWritesTheRecordsOfTheProgram(t *testing.T) {
	service, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { noError(t, service.Close()) })
	program, floor := newSide(t, service), newSide(t, service)
	program.callThrough(startProgram(program))
	floor.callThrough(startFloor(floor))
	for _, topic := range []struct {
		name    string
		records int
	}{{requests, 2}, {program.remote.Table, 1}, {replies, 2}} {
		want, got := program.records(topic.name, topic.records), floor.records(topic.name, topic.records)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("on %s the floor has other records than the program (-program +floor):\n%s", topic.name, d)
		}
	}
}

// side is an embedded Kafka of its own, with the configuration of the seed, so that names need not differ.
type side struct {
	t        *testing.T
	service  *embedded.Echo
	brokers  []string
	topology *topology.Topology
	remote   topology.Remote
}

func newSide(t *testing.T, service *embedded.Echo) *side {
	t.Helper()
	dir := t.TempDir()
	noError(t, embedded.WriteSeed(dir, "changeit"))
	host, port, err := net.SplitHostPort(service.Addr())
	noError(t, err)
	environment := map[string]string{"ECHO_SERVER_HOST": host, "ECHO_SERVER_PORT": port, "KEYSTORE_PASSWORD": "changeit"}
	broker, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{requests: partitions, replies: partitions}})
	noError(t, err)
	t.Cleanup(broker.Close)
	s := &side{t: t, service: service, brokers: broker.Brokers()}
	s.topology, err = topology.Load(filepath.Join(dir, "zilla.yaml"), topology.Options{
		Brokers: s.brokers, Listen: "127.0.0.1",
		LookupEnv: func(name string) (string, bool) { value, ok := environment[name]; return value, ok },
	})
	noError(t, err)
	s.remote = s.topology.Remotes[0]
	return s
}

// callThrough makes one call that has all that a call may have, and checks that it is answered.
func (s *side) callThrough(address string) {
	s.t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{}), grpc.WaitForReady(true)))
	noError(s.t, err)
	defer func() { noError(s.t, connection.Close()) }()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var header, trailer metadata.MD
	message, answer := []byte("hello"), []byte(nil)
	ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", "order-42", "picture-bin", "\x00\xff",
		"echo-header", "served-by=echo", "echo-trailer", "spent=1", "echo-trailer", "proof-bin=raw")
	noError(s.t, connection.Invoke(ctx, "/grpc.examples.echo.Echo/UnaryEcho", &message, &answer, grpc.Header(&header), grpc.Trailer(&trailer)))
	if string(answer) != "hello" || len(header["served-by"]) != 1 || len(trailer["spent"]) != 1 {
		s.t.Errorf("the answer is %q, with the metadata %v and %v", answer, header, trailer)
	}
}

// record is what is compared of one.
type record struct {
	Partition int32
	Offset    int64
	Key       string
	Value     string // of a row in JSON, without its times
	Null      bool
	Headers   []string
}

// records reads all records of a topic when there are n of them. All are in one partition.
func (s *side) records(topic string, n int) (all []record) {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	noError(s.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		noError(s.t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			read := record{Partition: r.Partition, Offset: r.Offset, Key: string(r.Key), Value: string(r.Value), Null: r.Value == nil}
			if topic == s.remote.Table {
				read.Value = withoutTimes(s.t, r.Value)
			}
			for _, h := range r.Headers {
				value := string(h.Value)
				switch h.Key {
				case "grpc:call", "grpc:deadline":
					value = "" // random, and a time
				}
				read.Headers = append(read.Headers, h.Key+"="+value)
			}
			all = append(all, read)
		})
	}
	return all
}

func withoutTimes(t *testing.T, value []byte) string {
	t.Helper()
	row := new(rowpb.Row)
	noError(t, proto.Unmarshal(value, row))
	for name, ms := range map[string]*int64{"started": &row.StartedMs, "finished": &row.FinishedMs, "expires": &row.ExpiresMs, "source": &row.Source.TimestampMs} {
		if *ms <= 0 {
			t.Errorf("the row has no time %s", name)
		}
		*ms = 0
	}
	text, err := protojson.Marshal(row)
	noError(t, err)
	return string(text)
}

// startFloor answers the address to call.
func startFloor(s *side) string {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...))
	noError(s.t, err)
	defer client.Close()
	_, err = kadm.NewClient(client).CreateTopic(s.t.Context(), partitions, 1, nil, s.remote.Table)
	noError(s.t, err)
	ready := make(chan string, 1)
	s.background(func(ctx context.Context) error {
		return serve(ctx, options{
			brokers: s.brokers, group: s.remote.Group, requests: requests, replies: replies, table: s.remote.Table,
			target: s.service.Addr(), listen: "127.0.0.1:0",
		}, func(address string) { ready <- address })
	})
	select {
	case address := <-ready:
		return address
	case <-time.After(patience):
		s.t.Fatal("the floor is not ready")
		return ""
	}
}

// startProgram starts what the program has of a processor and of a server in front, and answers the address to call.
func startProgram(s *side) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	told, err := telemetry.Setup(ctx, telemetry.Config{
		File: s.topology.Telemetry, Name: s.topology.Namespace, Service: "kafka-grpc", Stdout: io.Discard, Log: slog.New(slog.DiscardHandler),
	}, s.topology.Methods)
	noError(s.t, err)
	s.t.Cleanup(func() { noError(s.t, told.Stop(context.Background())) })
	state, err := statedir.Open(s.t.TempDir())
	noError(s.t, err)
	s.t.Cleanup(func() { noError(s.t, state.Close()) })
	caller := grpcout.New(grpcout.Options{Dial: told.ClientOptions()})
	s.t.Cleanup(func() { noError(s.t, caller.Close()) })
	p, err := processor.New(ctx, processor.Config{Remote: s.remote, Methods: s.topology.Methods, Client: caller, State: state, Telemetry: told, Log: slog.New(slog.DiscardHandler)})
	noError(s.t, err)
	s.background(p.Run)

	listener := s.topology.Listeners[0]
	route := listener.Routes[0]
	cluster := kafka.ClusterOf(route.Cluster, "north")
	producer, err := kafka.NewProducer(cluster)
	noError(s.t, err)
	s.t.Cleanup(func() { noError(s.t, producer.Close()) })
	calls := grpcin.NewCalls(s.topology.Listeners, grpcin.Limits{})
	tail, err := kafka.NewTail(context.Background(), cluster, []string{route.ReplyTo}, calls.Deliver, calls.Awaited, slog.New(slog.DiscardHandler))
	noError(s.t, err)
	s.t.Cleanup(func() { noError(s.t, tail.Close()) })
	server, err := grpcin.NewServer(grpcin.Options{
		Listener: listener, Methods: s.topology.Methods, Senders: map[string]grpcin.Sender{route.Cluster.Binding: producer},
		Readers: map[string]grpcin.Reader{route.Cluster.Binding: noReader{}}, Calls: calls, Telemetry: told,
	})
	noError(s.t, err)
	open, err := net.Listen("tcp", "127.0.0.1:0")
	noError(s.t, err)
	s.background(func(ctx context.Context) error { return server.Serve(ctx, open) })
	noError(s.t, p.WaitReady(ctx))
	return open.Addr().String()
}

// noReader is for replies that are read again for callers that are slow, of which there are none.
type noReader struct{ grpcin.Reader }

// background runs until the end of the test.
func (s *side) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		noError(s.t, <-done)
	})
}

// noError must be called by the goroutine of the test.
func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
