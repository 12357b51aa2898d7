package chaos_test

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/e2e/chaos/check"
	"kafkagrpc/e2e/chaos/faults"
	"kafkagrpc/e2e/chaos/history"
	"kafkagrpc/e2e/chaos/load"
	"kafkagrpc/e2e/chaos/observe"
	"kafkagrpc/e2e/chaos/service"
	"kafkagrpc/e2e/realkafka"
)

// What testdata/zilla.yaml says.
const (
	requestTopic = "chaos-requests"
	replyTopic   = "chaos-replies"
	group        = "chaos-west"
	drain        = 10 * time.Second
)

const (
	partitions = 8
	patience   = 90 * time.Second // for what must happen once the faults are over, unless a scenario has less
	again      = 300              // keys that are asked for once more when everything is answered
	recordKeys = 200              // of ordered calls
)

//go:embed testdata
var testdata embed.FS

// scenario is one run.
type scenario struct {
	tag       string // build tag of a planted defect
	order     string // processing.order; "": none
	once      bool   // processing.guarantee is exactly-once
	plan      faults.Plan
	rate      int
	slow      float64
	slowFor   time.Duration
	successes int           // at least, before, during and after the faults
	calm      time.Duration // of load before the first fault and after the last
	patience  time.Duration // for answers; default the constant
}

// world is everything of a run.
type world struct {
	t         *testing.T
	scenario  scenario
	broker    *realkafka.Kafka // nil on kfake
	admin     *kadm.Client
	recorder  *history.Recorder
	service   *service.Service
	load      *load.Load
	instances []*faults.Instance
}

// run runs a scenario to its end and answers its history. Only what a broken set-up causes ends the test here.
func run(t *testing.T, brokers []string, broker *realkafka.Kafka, s scenario) []history.Event {
	t.Helper()
	seed := rand.Uint64() % 1_000_000
	if given := os.Getenv("CHAOS_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("CHAOS_SEED: %v", err)
		}
	}
	t.Logf("seed %d (CHAOS_SEED=%d repeats its schedule)", seed, seed)

	// Not the test's own directory, which is gone after a failure.
	dir, err := os.MkdirTemp("", "kafka-grpc-chaos-")
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d; history and logs of the instances: %s", seed, dir)
			return
		}
		must(t, os.RemoveAll(dir))
	})
	w := &world{t: t, scenario: s, broker: broker}
	w.recorder, err = history.NewRecorder(filepath.Join(dir, "history.jsonl"))
	must(t, err)
	defer func() { must(t, w.recorder.Close()) }()

	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(2*time.Minute))
	must(t, err)
	defer client.Close()
	w.admin = kadm.NewClient(client)
	w.createTopics()
	observer, err := observe.Start(t.Context(), observe.Options{
		Brokers: brokers, Group: group, Replies: replyTopic,
		Table: group + "-table", Loop: group + "-loop", DeadLetters: group + "-dead-letters",
	}, w.recorder)
	must(t, err)
	defer func() {
		if err := observer.Close(); err != nil {
			t.Errorf("records that nobody can read: %v", err)
		}
	}()
	w.service, err = service.New(s.plan.Instances, service.Options{Slow: s.slow, SlowFor: s.slowFor, Fail: 0.03}, w.recorder)
	must(t, err)
	must(t, w.service.Up())
	defer func() { must(t, w.service.Down()) }()
	w.newInstances(dir, brokers)
	defer func() {
		for _, i := range w.instances {
			must(t, i.Kill())
		}
	}()
	w.load = load.New(client, load.Options{
		Topic: requestTopic, ReplyTo: replyTopic, Partitions: partitions, Service: "grpc.examples.echo.Echo", Method: "UnaryEcho",
		Rate: s.rate, Duplicates: 0.17, Rekeyed: 0.1, Deadlines: 0.15, Seed: seed, Order: s.order, Keys: recordKeys,
	}, w.recorder)

	loading, stopLoad := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	defer sending.Wait()
	defer stopLoad()
	sent := make(chan error, 1)
	sending.Go(func() { sent <- w.load.Run(loading) })

	w.waitReady()
	w.pause(s.calm)
	steps := faults.Schedule(seed, s.plan)
	for n, step := range steps {
		t.Logf("%d/%d %v", n+1, len(steps), step)
		w.suffer(step)
	}
	w.waitReady()
	w.pause(s.calm)
	stopLoad()
	must(t, <-sent)

	lost := w.waitAnswered("after the faults", 0)
	must(t, w.load.Again(t.Context(), again))
	lost = w.waitAnswered("asked again", lost)
	// Everything that is known survives an orderly restart of all instances at once.
	w.terminate()
	for _, i := range w.instances {
		must(t, i.Start())
	}
	w.waitReady()
	must(t, w.load.Again(t.Context(), again))
	w.waitAnswered("after an orderly restart", lost)
	w.terminate()
	w.pause(time.Second) // for the observer to see the last commits
	w.catchUp(observer)
	if n := w.load.Failed(); n > 0 {
		t.Errorf("%d requests were not acknowledged by Kafka", n)
	}
	events := w.recorder.Events()
	t.Logf("%v", check.Count(events))
	return events
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) createTopics() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	responses, err := w.admin.CreateTopics(ctx, partitions, 1, nil, requestTopic, replyTopic)
	if err == nil {
		err = responses.Error()
	}
	for shown := false; err == nil && !shown; {
		var details kadm.TopicDetails
		if details, err = w.admin.ListTopics(ctx, requestTopic, replyTopic); err == nil {
			shown = details.Error() == nil
		}
	}
	must(w.t, err)
}

func (w *world) newInstances(dir string, brokers []string) {
	w.t.Helper()
	files, err := fs.Sub(testdata, "testdata")
	must(w.t, errors.Join(err, os.CopyFS(filepath.Join(dir, "config"), files)))
	configuration := filepath.Join(dir, "config", "zilla.yaml")
	processing := "processing:\n"
	if order := w.scenario.order; order != "" {
		processing += "        order: " + order + "\n"
	}
	if w.scenario.once {
		processing += "        guarantee: exactly-once\n"
	}
	text, err := os.ReadFile(configuration)
	must(w.t, err)
	must(w.t, os.WriteFile(configuration, []byte(strings.Replace(string(text), "processing:\n", processing, 1)), 0o600))
	for n := range w.scenario.plan.Instances {
		host, port, err := net.SplitHostPort(w.service.Address(n))
		must(w.t, err)
		i := &faults.Instance{
			Name: strconv.Itoa(n), Binary: binary(w.t, w.scenario.tag),
			Args:  []string{"-c", configuration, "--brokers", strings.Join(brokers, ",")},
			Env:   []string{"SERVICE_HOST=" + host, "SERVICE_PORT=" + port},
			State: filepath.Join(dir, fmt.Sprintf("state-%d", n)), LogFile: filepath.Join(dir, fmt.Sprintf("instance-%d.log", n)),
		}
		w.instances = append(w.instances, i)
		must(w.t, i.Start())
	}
}

func (w *world) waitReady() {
	w.t.Helper()
	for _, i := range w.instances {
		must(w.t, i.WaitReady())
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

func (w *world) fault(fault, instance string, from time.Time) {
	now := time.Now()
	w.recorder.Record(history.Event{At: now, Kind: history.Fault, Fault: fault, Instance: instance, From: from, To: now})
}

// suffer carries out one step.
func (w *world) suffer(s faults.Step) {
	w.t.Helper()
	w.pause(s.Before)
	from := time.Now()
	switch s.Fault {
	case history.Kill:
		for _, n := range s.Instances {
			i := w.instances[n]
			if i.Ended() {
				w.t.Fatalf("instance %s has ended by itself", i.Name)
			}
			if s.Amid {
				w.waitTransaction(i)
			}
			from := time.Now()
			must(w.t, i.Kill())
			w.fault(s.Fault, i.Name, from)
		}
		w.pause(s.Down)
		for _, n := range s.Instances {
			if s.Wipe {
				must(w.t, os.RemoveAll(w.instances[n].State))
			}
			must(w.t, w.instances[n].Start())
		}
	case history.Terminate:
		for _, n := range s.Instances {
			must(w.t, w.instances[n].WaitReady())
			w.stop(w.instances[n])
			must(w.t, w.instances[n].Start())
			must(w.t, w.instances[n].WaitReady())
		}
	case history.Zombie:
		w.waitReady()
		i := w.instances[s.Instances[0]]
		if s.Amid {
			w.waitTransaction(i)
		}
		from = time.Now()
		must(w.t, i.Signal(syscall.SIGSTOP))
		w.pause(s.Down)
		must(w.t, i.Signal(syscall.SIGCONT))
		w.fault(s.Fault, i.Name, from)
	case history.BrokerCrash, history.BrokerRestart:
		if s.Amid {
			w.waitTransaction(w.instances...)
			from = time.Now()
		}
		if s.Fault == history.BrokerCrash {
			w.broker.Kill()
		} else {
			w.broker.Stop()
		}
		w.pause(s.Down)
		w.broker.Restart()
		w.fault(s.Fault, "", from)
	case history.Outage:
		must(w.t, w.service.Down())
		w.pause(s.Down)
		must(w.t, w.service.Up())
		w.fault(s.Fault, "", from)
	default:
		w.t.Fatalf("no such fault: %q", s.Fault)
	}
	if s.Settle {
		for _, n := range s.Instances {
			must(w.t, w.instances[n].WaitReady())
		}
	}
}

// waitTransaction waits a moment until one of some instances has a transaction open. It may have ended by the time that somebody knows.
func (w *world) waitTransaction(instances ...*faults.Instance) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	var ids []string
	for _, i := range instances {
		ids = append(ids, group+"-"+i.ID())
	}
	for ctx.Err() == nil {
		described, _ := w.admin.DescribeTransactions(ctx, ids...) // what cannot be described has none open
		for _, d := range described {
			if d.State == "Ongoing" {
				return
			}
		}
	}
}

// stop ends one instance in order.
func (w *world) stop(i *faults.Instance) {
	w.t.Helper()
	from := time.Now()
	must(w.t, i.Terminate(syscall.SIGTERM, patience))
	fault := history.Terminate
	if time.Since(from) > drain {
		fault = history.Overrun
	}
	w.fault(fault, i.Name, from)
}

// catchUp waits until the observer has read everything. All instances have ended.
func (w *world) catchUp(observer *observe.Observer) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := observer.CatchUp(ctx); err != nil {
		w.t.Error(err)
	}
	observer.Stop()
}

// terminate ends all instances in order, at once.
func (w *world) terminate() {
	var stopping sync.WaitGroup
	for _, i := range w.instances {
		stopping.Go(func() {
			from := time.Now()
			if err := i.Terminate(syscall.SIGTERM, patience); err != nil {
				w.t.Error(err)
				return
			}
			w.fault(history.Stop, i.Name, from)
		})
	}
	stopping.Wait()
}

// waitAnswered waits until every request is answered, but for those that are lost already. It answers how many are lost.
func (w *world) waitAnswered(when string, lost int) int {
	w.t.Helper()
	timeout := w.scenario.patience
	if timeout == 0 {
		timeout = patience
	}
	missing := w.recorder.WaitAnswered(w.t.Context(), timeout, lost)
	if missing > lost {
		w.t.Logf("%s: %d requests are not answered within %v", when, missing, timeout)
	}
	return missing
}

// binaries are built once for each defect.
var binaries struct {
	mu    sync.Mutex
	dir   string
	built map[string]string
}

func binary(t testing.TB, tag string) string {
	t.Helper()
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if path, ok := binaries.built[tag]; ok {
		return path
	}
	path := filepath.Join(binaries.dir, "kafka-grpc-"+tag)
	c := exec.CommandContext(t.Context(), "go", "build", "-tags", tag, "-o", path, "kafkagrpc/cmd/kafka-grpc")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
	binaries.built[tag] = path
	return path
}
