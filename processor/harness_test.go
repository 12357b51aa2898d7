package processor_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor"
	"kafkagrpc/processor/partition"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func TestMain(m *testing.M) {
	// Tests mostly wait: for the group to form, and for offsets to be committed. -parallel still overrides it.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		// One for the whole process, started by sarama's metrics and never stopped.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// Ends by itself within a second after its store is closed; Close does not wait for it.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
	)
}

const (
	requests = "echo-requests"
	replies  = "echo-replies"
	service  = "grpc.examples.echo.Echo"
	patience = time.Minute
)

// guaranteeEnv holds the guarantee that the tests run with which name none.
const guaranteeEnv = "KAFKA_GRPC_TEST_GUARANTEE"

// atLeastOnce skips a test of what cannot happen, or is not promised, where all is committed in transactions.
func atLeastOnce(t *testing.T, why string) {
	t.Helper()
	if os.Getenv(guaranteeEnv) == topology.GuaranteeExactlyOnce {
		t.Skip("with exactly-once " + why)
	}
}

// executions are those of a call whose row or reply a fault has kept from being committed: with exactly-once the processor forgets what it has in
// memory, and calls again.
func (b *testbench) executions(message string) []string {
	if b.remote.Processing.ExactlyOnce() {
		return []string{message, message}
	}
	return []string{message}
}

// testbench is one embedded Kafka with a service, and whatever a test starts on them.
type testbench struct {
	t          testing.TB
	kafka      *embedded.Kafka
	service    *fakeService
	remote     topology.Remote
	methods    topology.Methods
	partitions int32 // of the request topic
	ahead      int   // records of a partition that are read ahead of its committed offset; 0: the default
	quiet      bool  // without the processor's log
	forged     bool  // replies come repeatedly for a reason of the test's own
	sweep      time.Duration
	budget     *consumergroup.Budget // default one of each processor's own
	paces      processor.Paces       // default those of each processor
	telemetry  *telemetry.Telemetry  // of the processors
	codecs     partition.Codecs      // of plain events
	heard      io.Writer             // gets the lines of the processors' logs, too, in JSON
	client     *kgo.Client           // produces, and reads replies and dead letters
	admin      *kadm.Client
}

func newBench(t testing.TB, partitions int32, change ...func(*topology.Remote)) *testbench {
	t.Helper()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{requests: partitions, replies: 3}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	b := &testbench{t: t, kafka: broker, service: startFakeService(t), partitions: partitions}
	b.remote = topology.Remote{
		Binding: "remote", Group: "test-remote", Table: "test-remote-table", Loop: "test-remote-loop",
		Cluster:  &topology.Cluster{Binding: "kafka", Brokers: broker.Brokers()},
		Contract: wire.DefaultContract(),
		Processing: topology.Processing{
			MaxInFlight: 1000, Timeout: 30 * time.Second, StreamIdle: time.Minute, Drain: 10 * time.Second,
			RetryCodes: []codes.Code{codes.Unavailable}, DeadLetter: "test-remote-dead-letters",
			RetryInitial: time.Millisecond, RetryMax: 10 * time.Millisecond, RetryMaxElapsed: time.Minute,
			BreakerFailures: 20, BreakerOpen: 20 * time.Millisecond,
		},
		Expiry: time.Hour, MaxResult: 900 << 10,
		Routes: []topology.RemoteRoute{{
			Topic: requests, ReplyTo: replies,
			Methods: []topology.MethodPattern{service + "/*"},
			Target:  topology.Target{Scheme: "http", Authority: b.service.addr, Address: b.service.addr},
		}},
	}
	b.methods = topology.Methods{
		service + "/UnaryEcho":                  {},
		service + "/ClientStreamingEcho":        {ClientStreams: true},
		service + "/ServerStreamingEcho":        {ServerStreams: true},
		service + "/BidirectionalStreamingEcho": {ClientStreams: true, ServerStreams: true},
	}
	b.remote.Processing.Guarantee = os.Getenv(guaranteeEnv)
	b.remote.Processing.TransactionMax, b.remote.Processing.TransactionMaxBytes = topology.DefaultTransactionMax, topology.DefaultTransactionMaxBytes
	for _, f := range change {
		f(&b.remote)
	}
	b.client, err = kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1_048_588), kgo.ProducerLinger(0),
		kgo.ConsumeTopics(replies, b.remote.Processing.DeadLetter), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond), kgo.MetadataMinAge(10*time.Millisecond), kgo.MetadataMaxAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	b.admin = kadm.NewClient(b.client)
	t.Cleanup(b.answeredOnce)
	return b
}

// instance is one running processor.
type instance struct {
	*processor.Processor
	dir   string
	begin func() // begins to stop
	stop  func() // stops in order, and waits
}

func (b *testbench) start(dir string) *instance {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	state, err := statedir.Open(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(testWriter{b.t}, nil))
	if b.quiet {
		log = slog.New(slog.DiscardHandler)
	}
	if b.heard != nil {
		log = slog.New(slog.NewMultiHandler(log.Handler(), slog.NewJSONHandler(b.heard, nil)))
	}
	var calls grpcout.Options
	if b.telemetry != nil {
		calls.Dial = b.telemetry.ClientOptions()
	}
	client := grpcout.New(calls)
	p, err := processor.New(ctx, processor.Config{
		Remote: b.remote, Methods: b.methods, Client: client, State: state,
		Log: log, SweepInterval: b.sweep, Budget: b.budget, Paces: b.paces, MaxUncommitted: b.ahead, Telemetry: b.telemetry, Codecs: b.codecs,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err := errors.Join(err, client.Close(), state.Close()); err != nil {
				b.t.Error(err)
			}
		case <-time.After(patience):
			b.t.Error("the processor did not stop")
		}
	})
	b.t.Cleanup(stop)
	return &instance{p, dir, cancel, stop}
}

func (b *testbench) started() *instance {
	b.t.Helper()
	i := b.start(b.t.TempDir())
	b.ready(i)
	return i
}

func (b *testbench) ready(i *instance) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := i.WaitReady(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// testWriter passes log lines to the test until it ends. None may tell of a mistake of the program.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b))
	if bytes.Contains(b, []byte("a mistake of the program")) {
		w.t.Error("an attempt was to leave its state against the rules")
	}
	return len(b), nil
}

// committed waits until the group has committed everything that the request topic and the loop topic hold. All that
// the records caused is written by then.
func (b *testbench) committed() {
	b.t.Helper()
	topics := []string{requests, b.remote.Loop}
	b.eventually("all offsets committed", func() bool {
		// In this order: a record is committed only when what it sent through the loop topic is there.
		offsets, err := b.admin.FetchOffsets(context.Background(), b.remote.Group)
		if err != nil {
			b.t.Fatal(err)
		}
		ends, err := b.admin.ListEndOffsets(context.Background(), topics...)
		if err != nil {
			b.t.Fatal(err)
		}
		all := true
		ends.Each(func(o kadm.ListedOffset) {
			at, ok := offsets.Lookup(o.Topic, o.Partition)
			all = all && (o.Offset == 0 || ok && at.At == o.Offset)
		})
		return all
	})
}

// evict removes the member of a stopped instance from the group, which would wait for its return.
func (b *testbench) evict(dir string) {
	b.t.Helper()
	state, err := statedir.Open(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	id, err := state.InstanceID()
	if err := errors.Join(err, state.Close()); err != nil {
		b.t.Fatal(err)
	}
	left, err := b.admin.LeaveGroup(context.Background(), kadm.LeaveGroup(b.remote.Group).InstanceIDs(id))
	if err := errors.Join(err, left.Error()); err != nil {
		b.t.Fatal(err)
	}
}

// eventually polls a condition that nothing signals.
func (b *testbench) eventually(what string, condition func() bool) {
	b.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
