package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// Each benchmark measures the program, direct calls to the same echo service, and Kafka alone (rawLoop), one after the
// other on one broker: the figures depend on the machine, their ratios hardly do. docs/performance.md explains them.
// A benchmark measures once, whatever b.N is; repeat it with -count.

const (
	benchPartitions = 8
	inFlight        = 2_000
	connections     = 8

	rawRequests = "raw-requests"
	rawReplies  = "raw-replies"
)

// The program is started on a backlog. The rate is between the first and the last reply that Kafka appended.
func BenchmarkBacklog(b *testing.B) {
	w := newBenchWorld(b)
	// A broker that just began is slow; the first of the three must not pay for it.
	w.createReplyTopics("warm-up")
	w.produceBacklog(benchPartitions, backlog)
	w.drainRaw("warm-up")

	direct := inParallel(b, 2*backlog, inFlight, w.direct("direct"))

	began := time.Now()
	p := w.run()
	startUp := time.Since(began)
	w.awaitRecords(replyTopic, 2*backlog)
	rate, last := w.repliesPerSecond(replyTopic)
	reportMemory(b, p, "MB-after")
	p.kill()

	rawBegan := time.Now()
	w.drainRaw(rawReplies)
	rawRate, rawLast := w.repliesPerSecond(rawReplies)

	reportRates(b, rate, direct, rawRate)
	b.ReportMetric(startUp.Seconds()*1000, "ms-to-ready")
	b.ReportMetric(backlog/last.Sub(began).Seconds(), "req/s-from-start")
	b.ReportMetric(backlog/rawLast.Sub(rawBegan).Seconds(), "raw-req/s-from-start")
}

// As many callers as may wait at once, each with one call after the other.
func BenchmarkInFlight2000(b *testing.B) {
	const warmUp, calls = 10_000, 40_000
	w := newBenchWorld(b)
	began := time.Now()
	p := w.run()
	b.ReportMetric(time.Since(began).Seconds()*1000, "ms-to-ready")
	reportMemory(b, p, "MB-idle")
	loop := w.startRawLoop()

	measure := func(name string, call func(name string) func(int) error) float64 {
		inParallel(b, warmUp, inFlight, call("warm-up-"+name))
		return inParallel(b, calls, inFlight, call(name))
	}
	direct := measure("direct", w.direct)
	raw := measure("raw", loop.calls)
	rate := measure("north", w.north)
	reportMemory(b, p, "MB-after")
	reportRates(b, rate, direct, raw)
}

// One caller, whose next call begins when the last one is answered.
func BenchmarkOneInFlight(b *testing.B) {
	const warmUp, calls = 500, 3_000
	w := newBenchWorld(b)
	w.run()
	loop := w.startRawLoop()

	measure := func(name string, call func(name string) func(int) error) (p50, p99 float64) {
		inSequence(b, warmUp, call("warm-up-"+name))
		return inSequence(b, calls, call(name))
	}
	direct50, direct99 := measure("direct", w.direct)
	raw50, raw99 := measure("raw", loop.calls)
	north50, north99 := measure("north", w.north)
	b.ReportMetric(0, "ns/op") // it would be that of the whole benchmark
	for unit, value := range map[string]float64{
		"p50-ms": north50, "p99-ms": north99,
		"direct-p50-ms": direct50, "direct-p99-ms": direct99,
		"raw-p50-ms": raw50, "raw-p99-ms": raw99,
		"p50-x-direct": north50 / direct50, "p50-x-raw": north50 / raw50, "p99-x-raw": north99 / raw99,
	} {
		b.ReportMetric(value, unit)
	}
}

func newBenchWorld(b *testing.B) *world {
	b.Helper()
	w := newWorld(b, "-quiet")
	w.create(benchPartitions, nil, requestTopic, rawRequests)
	w.createReplyTopics(replyTopic, rawReplies)
	return w
}

// createReplyTopics makes topics whose records have the broker's time: producers stamp a record when it enters their
// buffer, which says little about when it was written.
func (w *world) createReplyTopics(topics ...string) {
	w.t.Helper()
	w.create(benchPartitions, map[string]*string{"message.timestamp.type": kadm.StringPtr("LogAppendTime")}, topics...)
}

// direct are calls to the echo service, north are calls through the program; both over several connections.
func (w *world) direct(name string) func(i int) error { return w.calls(name, w.addr) }
func (w *world) north(name string) func(i int) error  { return w.calls(name, plainAddress) }

func (w *world) calls(name, address string) func(i int) error {
	callers := make([]caller, connections)
	for i := range callers {
		callers[i] = dial(w.t, address)
	}
	return func(i int) error {
		key := fmt.Sprintf("%s-%d", name, i)
		r := callers[i%connections].call(key, key)
		if r.err == nil && r.message != key {
			return fmt.Errorf("call %s was answered %q", key, r.message)
		}
		return r.err
	}
}

// inParallel makes n calls, of which so many at once wait, and answers how many are made in a second.
func inParallel(b *testing.B, n, inFlight int, call func(i int) error) float64 {
	b.Helper()
	var next atomic.Int64
	failed := make(chan error, 1)
	began := time.Now()
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := call(i); err != nil {
					select {
					case failed <- err:
					default: // another call was first
					}
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
	return float64(n) / took.Seconds()
}

// inSequence makes n calls, one after the other, and answers percentiles of their durations in milliseconds.
func inSequence(b *testing.B, n int, call func(i int) error) (p50, p99 float64) {
	b.Helper()
	took := make([]float64, n)
	for i := range took {
		began := time.Now()
		if err := call(i); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(began).Seconds() * 1000
	}
	slices.Sort(took)
	return took[n/2], took[n*99/100]
}

func reportRates(b *testing.B, rate, direct, raw float64) {
	b.ReportMetric(0, "ns/op") // it would be that of the whole benchmark
	for unit, value := range map[string]float64{
		"req/s": rate, "direct-req/s": direct, "raw-req/s": raw, "x-direct": rate / direct, "x-raw": rate / raw,
	} {
		b.ReportMetric(value, unit)
	}
}

// reportMemory reports the resident memory of a process, and once there was load its peak.
func reportMemory(b *testing.B, p *process, unit string) {
	b.Helper()
	b.ReportMetric(p.memory("VmRSS:"), unit)
	if unit == "MB-after" {
		b.ReportMetric(p.memory("VmHWM:"), "MB-peak")
	}
}

// memory reads a field of the process's status as megabytes of 1024 * 1024 bytes.
func (p *process) memory(field string) float64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			kB, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				p.t.Fatal(err)
			}
			return float64(kB) / 1024
		}
	}
	p.t.Fatalf("no %s in the status of process %d", field, p.cmd.Process.Pid)
	return 0
}

// awaitRecords waits until a topic has n records. It only asks for offsets: a reader would take time from what is measured.
func (w *world) awaitRecords(topic string, n int64) {
	w.t.Helper()
	admin := kadm.NewClient(w.client())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var written int64
		ends, err := admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			w.t.Fatal(err)
		}
		ends.Each(func(o kadm.ListedOffset) { written += o.Offset })
		if written >= n {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("topic %s has %d records of %d after %s", topic, written, n, patience)
		}
	}
}

// repliesPerSecond checks that a reply topic answers the whole backlog, each request once and with OK, and answers the
// rate between the first and the last record, and when the last one was written.
func (w *world) repliesPerSecond(topic string) (rate float64, last time.Time) {
	w.t.Helper()
	ends := map[string]bool{}
	var first time.Time
	for _, r := range w.records(topic, 2*backlog) {
		if first.IsZero() || r.Timestamp.Before(first) {
			first = r.Timestamp
		}
		if r.Timestamp.After(last) {
			last = r.Timestamp
		}
		reply, err := wire.DefaultContract().DecodeReply(r.Headers)
		if err != nil || reply.Status != codes.OK {
			w.t.Fatalf("%s/%d@%d: status %v, %v", r.Topic, r.Partition, r.Offset, reply.Status, err)
		}
		if r.Value == nil {
			ends[reply.CorrelationID] = true
		}
	}
	if len(ends) != backlog {
		w.t.Fatalf("topic %s answers %d requests of %d", topic, len(ends), backlog)
	}
	return backlog / last.Sub(first).Seconds(), last
}

// drainRaw answers the backlog to another topic, without doing anything for it.
func (w *world) drainRaw(to string) {
	w.t.Helper()
	stop := w.startLoop(requestTopic, to)
	w.awaitRecords(to, 2*backlog)
	stop()
}

// startLoop reads a topic of requests from its start and writes for each of its records the one that the processor would
// write: same key and headers, acks=all, no linger. It is what Kafka allows at most, so it does nothing else. stop ends it
// and is called at the end of the benchmark at the latest.
func (w *world) startLoop(from, to string) (stop func()) {
	w.t.Helper()
	client := w.client(kgo.ConsumeTopics(from), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DefaultProduceTopic(to), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	ctx, cancel := context.WithCancel(context.Background())
	contract := wire.DefaultContract()
	failed := func(_ *kgo.Record, err error) {
		if err != nil && ctx.Err() == nil {
			w.t.Errorf("the loop from %s to %s: %v", from, to, err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			fetches := client.PollFetches(ctx)
			if ctx.Err() != nil {
				return
			}
			for _, e := range fetches.Errors() {
				w.t.Errorf("the loop from %s to %s: %v", from, to, e.Err)
			}
			fetches.EachRecord(func(k *kgo.Record) {
				_, call := contract.Names(wireHeaders(k))
				r := wire.Reply{CorrelationID: string(k.Key), Call: string(call)}
				var headers []wire.Header
				if k.Value != nil {
					r.Metadata = wire.Metadata{{Name: "served-by", Value: "echo"}}
					headers = contract.EncodeReplyMessage(r)
				} else {
					r.Trailers = wire.Metadata{{Name: "proof-bin", Value: "\x00\xff"}, {Name: "spent", Value: "1"}}
					headers = contract.EncodeReplyEnd(r)
				}
				client.Produce(ctx, &kgo.Record{Key: k.Key, Value: k.Value, Headers: kafkaHeaders(headers)}, failed)
			})
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	w.t.Cleanup(stop)
	return stop
}

// rawLoop makes calls through Kafka alone: the records of a request to one topic, a loop, the records of its reply from
// another topic, with nothing between.
type rawLoop struct {
	client *kgo.Client

	mu      sync.Mutex
	waiting map[string]chan error // by correlation id; at most one per call
}

func (w *world) startRawLoop() *rawLoop {
	w.t.Helper()
	w.startLoop(rawRequests, rawReplies)
	l := &rawLoop{waiting: map[string]chan error{}}
	l.client = w.client(kgo.ConsumeTopics(rawReplies), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DefaultProduceTopic(rawRequests), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			fetches := l.client.PollFetches(ctx)
			if ctx.Err() != nil {
				return
			}
			for _, e := range fetches.Errors() {
				w.t.Errorf("reading %s: %v", rawReplies, e.Err)
			}
			fetches.EachRecord(func(k *kgo.Record) {
				if k.Value == nil {
					l.answer(string(k.Key), nil)
				}
			})
		}
	})
	w.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return l
}

func (l *rawLoop) answer(id string, err error) {
	l.mu.Lock()
	waiter, ok := l.waiting[id]
	delete(l.waiting, id)
	l.mu.Unlock()
	if ok {
		waiter <- err
	}
}

func (l *rawLoop) calls(name string) func(i int) error {
	contract := wire.DefaultContract()
	return func(i int) error {
		key := fmt.Sprintf("%s-%d", name, i)
		id := contract.ScopeID(key, echo, "UnaryEcho", rawReplies, nil)
		headers := kafkaHeaders(contract.EncodeRequest(wire.Request{
			Service: echo, Method: "UnaryEcho", ReplyTo: rawReplies, CorrelationID: id, Call: key,
			Deadline: time.Now().Add(patience), Metadata: wire.Metadata{{Name: "idempotency-key", Value: key}},
		}, nil))
		waiter := make(chan error, 1)
		l.mu.Lock()
		l.waiting[id] = waiter
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, value := range [][]byte{[]byte(key), nil} {
			l.client.Produce(ctx, &kgo.Record{Key: []byte(id), Value: value, Headers: headers}, func(_ *kgo.Record, err error) {
				if err != nil {
					l.answer(id, err)
				}
			})
		}
		select {
		case err := <-waiter:
			return err
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("no reply to %s", id), ctx.Err())
		}
	}
}

func wireHeaders(k *kgo.Record) []wire.Header {
	out := make([]wire.Header, len(k.Headers))
	for i, h := range k.Headers {
		out[i] = wire.Header{Name: h.Key, Value: h.Value}
	}
	return out
}

func kafkaHeaders(headers []wire.Header) []kgo.RecordHeader {
	out := make([]kgo.RecordHeader, len(headers))
	for i, h := range headers {
		out[i] = kgo.RecordHeader{Key: h.Name, Value: h.Value}
	}
	return out
}
