package containers_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/e2e/chaos/check"
	"kafkagrpc/e2e/chaos/history"
	"kafkagrpc/e2e/chaos/load"
	"kafkagrpc/e2e/chaos/observe"
	"kafkagrpc/e2e/chaos/service"
)

// What testdata/zilla.yaml says.
const (
	requestTopic = "chaos-requests"
	replyTopic   = "chaos-replies"
	group        = "chaos-west"
	drain        = 10 * time.Second
	echo         = "grpc.examples.echo.Echo"
	unary        = "UnaryEcho"
)

const (
	partitions     = 8
	sessionTimeout = 10 * time.Second // the program's
	patience       = 90 * time.Second // for what must happen once the faults are over
	again          = 300              // keys that are asked for once more when everything is answered
	calm           = 5 * time.Second  // of load before, between and after the faults
	successes      = 300              // at least, before, during and after the faults
)

// world is everything of a test.
type world struct {
	t         *testing.T
	recorder  *history.Recorder
	load      *load.Load
	instances []*instance
	images    []string // of the program: two versions

	stopLoad func() error
}

// newWorld starts Kafka and the service, and no instance yet.
func newWorld(t *testing.T, rate int, o service.Options) *world {
	t.Helper()
	need(t)
	w := &world{t: t, images: []string{programImage(t, "v1.0.0"), programImage(t, "v1.1.0")}}
	seed := rand.Uint64()
	// Not the test's own directory, which is gone after a failure.
	dir, err := os.MkdirTemp("", "kafka-grpc-containers-")
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("history and logs of the instances: %s", dir)
			return
		}
		must(t, os.RemoveAll(dir))
	})
	w.recorder, err = history.NewRecorder(filepath.Join(dir, "history.jsonl"))
	must(t, err)
	t.Cleanup(func() { must(t, w.recorder.Close()) })
	toKafka, _ := newNetwork(t)
	toService, here := newNetwork(t)
	brokers := startKafka(t, toKafka)

	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(2*time.Minute))
	must(t, err)
	t.Cleanup(client.Close)
	w.createTopics(client)
	observer, err := observe.Start(t.Context(), observe.Options{
		Brokers: []string{brokers}, Group: group, Replies: replyTopic,
		Table: group + "-table", Loop: group + "-loop", DeadLetters: group + "-dead-letters",
	}, w.recorder)
	must(t, err)
	t.Cleanup(func() {
		if err := observer.Close(); err != nil {
			t.Errorf("records that nobody can read: %v", err)
		}
	})
	o.Host = here
	const most = 3
	called, err := service.New(most, o, w.recorder)
	must(t, err)
	must(t, called.Up())
	t.Cleanup(func() { must(t, called.Down()) })
	for n := range most {
		w.instances = append(w.instances, newInstance(t, n, called.Address(n), dir, toKafka, toService))
	}

	w.load = load.New(client, load.Options{
		Topic: requestTopic, ReplyTo: replyTopic, Partitions: partitions, Service: echo, Method: unary,
		Rate: rate, Duplicates: 0.17, Rekeyed: 0.1, Seed: seed,
	}, w.recorder)
	loading, stop := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() { sent <- w.load.Run(loading) }() // stopLoad waits for it
	w.stopLoad = sync.OnceValue(func() error {
		stop()
		return <-sent
	})
	t.Cleanup(func() { must(t, w.stopLoad()) })
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) createTopics(client *kgo.Client) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	responses, err := kadm.NewClient(client).CreateTopics(ctx, partitions, 1, nil, requestTopic, replyTopic)
	must(w.t, errors.Join(err, responses.Error()))
}

// start starts instances, of the first version, and waits until they are ready.
func (w *world) start(numbers ...int) {
	w.t.Helper()
	for _, n := range numbers {
		w.instances[n].start(w.images[0])
	}
	for _, n := range numbers {
		w.instances[n].waitReady()
	}
}

// pause lets the load go on.
func (w *world) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.t.Context().Done():
	}
}

func (w *world) fault(fault string, i *instance, from time.Time) {
	now := time.Now()
	w.recorder.Record(history.Event{At: now, Kind: history.Fault, Fault: fault, Instance: i.name, From: from, To: now})
}

// terminate ends an instance in order.
func (w *world) terminate(i *instance) {
	w.t.Helper()
	from := time.Now()
	i.stop()
	fault := history.Terminate
	if time.Since(from) > drain {
		fault = history.Overrun
	}
	w.fault(fault, i, from)
}

// judge ends the load, asks for some keys once more, and holds the history against the invariants.
func (w *world) judge(faults map[string]int) []history.Event {
	w.t.Helper()
	must(w.t, w.stopLoad())
	lost := w.recorder.WaitAnswered(w.t.Context(), patience, 0)
	must(w.t, w.load.Again(w.t.Context(), again))
	w.recorder.WaitAnswered(w.t.Context(), patience, lost)
	if n := w.load.Failed(); n > 0 {
		w.t.Errorf("%d requests were not acknowledged by Kafka", n)
	}
	w.pause(time.Second) // for the observer to see the last commits
	events := w.recorder.Events()
	partition, pause := check.LongestPause(events)
	w.t.Logf("%v; longest pause of a partition: %v (%d)", check.Count(events), pause.Round(10*time.Millisecond), partition)
	for _, line := range check.Explain(events, check.All(events, check.Options{Successes: successes, Faults: faults})) {
		w.t.Error(line)
	}
	return events
}

// executedBy is how many executions each instance has begun since a time.
func executedBy(events []history.Event, since time.Time) map[string]int {
	count := map[string]int{}
	for _, e := range events {
		if e.Kind == history.Begin && e.At.After(since) {
			count[e.Instance]++
		}
	}
	return count
}
