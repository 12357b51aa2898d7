package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

const (
	benchPartitions = 8
	connections     = 8
)

// BenchmarkBacklog measures the program beside direct calls to the same echo service and beside the floor, one after the other on
// one broker: the figures depend on the machine, their ratios hardly do. The program is started on a backlog, and the rate is between
// the first and the last reply that Kafka appended. It measures once, whatever b.N is; repeat it with -count. docs/performance.md
// explains it.
func BenchmarkBacklog(b *testing.B) {
	w := newWorld(b, "-quiet")
	binary(b, "floor") // so that nobody measures how long it is built
	w.create(benchPartitions, nil, requestTopic)
	w.produceBacklog(benchPartitions, backlog)
	// A broker that just began is slow; the first of the three must not pay for it.
	w.floorOnBacklog("warm-up")

	direct := w.directRate(2 * backlog)

	w.createReplyTopics(replyTopic)
	began := time.Now()
	p := w.run()
	startUp := time.Since(began)
	w.awaitRecords(replyTopic, 2*backlog)
	rate, last := w.repliesPerSecond(replyTopic)
	b.ReportMetric(p.memory("VmRSS:"), "MB-after")
	b.ReportMetric(p.memory("VmHWM:"), "MB-peak")
	p.kill()

	floorBegan := w.floorOnBacklog("floor")
	floorRate, floorLast := w.repliesPerSecond("floor")

	b.ReportMetric(0, "ns/op") // it would be that of the whole benchmark
	for unit, value := range map[string]float64{
		"req/s": rate, "direct-req/s": direct, "floor-req/s": floorRate, "x-direct": rate / direct, "x-floor": rate / floorRate,
		"ms-to-ready": milliseconds(startUp), "req/s-from-start": backlog / last.Sub(began).Seconds(),
		"floor-req/s-from-start": backlog / floorLast.Sub(floorBegan).Seconds(),
	} {
		b.ReportMetric(value, unit)
	}
}

// directRate makes n calls to the echo service, and answers how many are made in a second.
func (w *world) directRate(n int) float64 {
	w.t.Helper()
	callers := make([]caller, connections)
	for i := range callers {
		callers[i] = dial(w.t, w.addr)
	}
	began := time.Now()
	if err := overGRPC(callers, benchCase{message: 20, inFlight: 2000}, n)(context.Background(), new(tally)); err != nil {
		w.t.Fatal(err)
	}
	return float64(n) / time.Since(began).Seconds()
}

// floorOnBacklog lets the floor answer the backlog to another topic, and answers when it was started.
func (w *world) floorOnBacklog(replies string) (began time.Time) {
	w.t.Helper()
	w.createReplyTopics(replies)
	c := w.floor(replies, requestTopic, replies, replies+"-table", benchPartitions)
	began = time.Now()
	p := start(w.t, c)
	w.awaitRecords(replies, 2*backlog)
	p.kill()
	return began
}

// floor is e2e/floor with a table of its own.
func (w *world) floor(group, requests, replies, table string, partitions int32) *exec.Cmd {
	w.t.Helper()
	w.create(partitions, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, table)
	return exec.Command(binary(w.t, "floor"), "-brokers", strings.Join(w.kafka.Brokers(), ","), "-group", group, "-requests", requests,
		"-replies", replies, "-table", table, "-target", w.addr)
}

// createReplyTopics makes topics whose records have the broker's time: producers stamp a record when it enters their
// buffer, which says little about when it was written.
func (w *world) createReplyTopics(topics ...string) {
	w.t.Helper()
	w.create(benchPartitions, map[string]*string{"message.timestamp.type": kadm.StringPtr("LogAppendTime")}, topics...)
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
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		written := w.written(admin, topic)
		if written >= n {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("topic %s has %d records of %d after %s", topic, written, n, patience)
		}
	}
}

// written is how many records a topic has had.
func (w *world) written(admin *kadm.Client, topic string) (n int64) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
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
