package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

const (
	handOverFile       = "chaos/testdata/zilla.yaml" // has no listeners, and thus no ports
	handOverRequests   = "chaos-requests"
	handOverReplies    = "chaos-replies"
	handOverGroup      = "chaos-west"
	handOverTable      = handOverGroup + "-table"
	handOverRows       = 1_000_000
	handOverPartitions = 8
	handOverMessage    = "hello"
)

// One of two instances goes away for good, and the other one takes its partitions over. The time is from the signal to the
// last answer to one repeated request in each of them. Also, how fast an instance starts that has no local copy.
func BenchmarkHandOver(b *testing.B) {
	w := newHandOver(b)
	w.fillTable()
	for _, stop := range []struct {
		name   string
		signal syscall.Signal
	}{{"kill", syscall.SIGKILL}, {"term", syscall.SIGTERM}} {
		for _, standby := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/standby=%t", stop.name, standby), func(b *testing.B) {
				w.in(b).measure(stop.signal, standby)
			})
		}
	}
	if n := w.echo.count("call "); n != 1 {
		b.Errorf("the service got %d calls: answers did not come from the table", n)
	}
}

// An instance that was told to leave is no member when its process has ended, and the other one answers for its partitions. One that was
// not told stays a member, for its return.
func TestScaleDown(t *testing.T) {
	w := newHandOver(t)
	file, dir := w.configuration(false), t.TempDir()
	staying := w.instance(file)
	staying.await("ready ")
	leaving := w.instance(file, "--state-dir", dir)
	leaving.await("ready ")
	all := make([]int32, handOverPartitions)
	for p := range all {
		all[p] = int32(p)
	}
	for _, p := range []*process{staying, leaving} {
		p.until("an assignment of half of the partitions", func(lines []string, _ bool) bool {
			return len(lastAssignment(lines)) == handOverPartitions/2
		})
	}
	w.repeat(all)
	if code := start(t, w.command("leave", "--state-dir", dir)).wait(); code != 0 {
		t.Fatalf("leave ends with exit code %d", code)
	}
	began := time.Now()
	leaving.signal(syscall.SIGTERM)
	if code := leaving.wait(); code != 0 {
		t.Errorf("an orderly stop ends with exit code %d", code)
	}
	if n := w.members(); n != 1 {
		t.Errorf("the group has %d members when the instance has left", n)
	}
	w.repeat(all)
	t.Logf("from the signal to the last answer: %v", time.Since(began).Round(time.Millisecond))
	staying.signal(syscall.SIGTERM)
	staying.wait()
	if n := w.members(); n != 1 {
		t.Errorf("the group has %d members when an instance has stopped for a restart", n)
	}
}

// handOver is a real Kafka, the echo service, and a table in which each row answers a repetition of the same request.
type handOver struct {
	*world
	requests, replies *kgo.Client
	admin             *kadm.Client
	asked             int // attempts so far
}

func newHandOver(b testing.TB) *handOver {
	b.Helper()
	realkafka.Need(b)
	w := &handOver{world: &world{t: b}}
	w.kafka = realkafka.Start(b, realkafka.Options{})
	binary(b, "kafka-grpc") // so that nobody measures how long it is built
	w.echo = start(b, exec.Command(binary(b, "echoservice")))
	w.addr = strings.TrimPrefix(w.echo.await("listening "), "listening ")
	w.requests = w.manual()
	w.admin = kadm.NewClient(w.requests)
	w.create(handOverPartitions, nil, handOverRequests, handOverReplies)
	w.replies = w.client(kgo.ConsumeTopics(handOverReplies), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	return w
}

// manual is a client that writes where it is told.
func (w *handOver) manual() *kgo.Client {
	w.t.Helper()
	return w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000),
		kgo.ProducerBatchCompression(kgo.NoCompression())) // as the program writes
}

// in is w for a sub-benchmark.
func (w *handOver) in(b *testing.B) *handOver {
	inner, outer := *w.world, *w
	inner.t, outer.world = b, &inner
	return &outer
}

func (w *handOver) measure(signal syscall.Signal, standby bool) {
	w.t.Helper()
	b := w.t.(*testing.B)
	file := w.configuration(standby)
	w.awaitNoMembers() // a rebalance must not be prolonged by what ran before
	began := time.Now()
	first := w.instance(file)
	first.await("ready ")
	b.ReportMetric(handOverRows/time.Since(began).Seconds(), "rows/s-of-start")
	second := w.instance(file)
	// With standby copies it joins the group when it has all of them, so that nothing but the moment is left to read.
	second.await("ready ")
	var lost []int32
	for _, p := range []*process{first, second} {
		p.until("an assignment of half of the partitions", func(lines []string, _ bool) bool {
			assigned := lastAssignment(lines)
			if p == first {
				lost = assigned
			}
			return len(assigned) == handOverPartitions/2
		})
	}
	all := make([]int32, handOverPartitions)
	for p := range all {
		all[p] = int32(p)
	}
	w.repeat(all) // the owners have what they own

	// The first one, as it had all partitions once: its copies of those that it gave up would be ahead of others.
	began = time.Now()
	first.signal(signal)
	if code := first.wait(); signal == syscall.SIGTERM && code != 0 {
		b.Errorf("an orderly stop ends with exit code %d", code)
	}
	b.ReportMetric(time.Since(began).Seconds(), "s-to-exit")
	w.repeat(lost)
	b.ReportMetric(time.Since(began).Seconds(), "s-to-last-answer")
	b.ReportMetric(0, "ns/op") // it would be that of the whole benchmark
	if assigned := lastAssignment(strings.Split(second.output(), "\n")); len(assigned) != handOverPartitions {
		b.Errorf("the second instance has partitions %d", assigned)
	}
	second.kill()
}

// configuration writes a variant of the file.
func (w *handOver) configuration(standby bool) string {
	w.t.Helper()
	return w.variant(fmt.Sprintf("        standby: %t\n", standby))
}

// variant writes the file with more lines of `processing`, and of the options that it is one of.
func (w *handOver) variant(processing string, options ...string) string {
	w.t.Helper()
	text, err := os.ReadFile(handOverFile)
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Dir(handOverFile))); err != nil {
		w.t.Fatal(err)
	}
	const before = "      processing:\n"
	if strings.Count(string(text), before) != 1 {
		w.t.Fatalf("%s has no place for processing.standby", handOverFile)
	}
	variant := strings.Replace(string(text), before, strings.Join(options, "")+before+processing, 1)
	file := filepath.Join(dir, filepath.Base(handOverFile))
	if err := os.WriteFile(file, []byte(variant), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// instance starts one that has nothing yet, and thus a member id of its own, unless args name a state folder.
func (w *handOver) instance(file string, args ...string) *process {
	w.t.Helper()
	c := w.command(append([]string{"run", "-c", file, "--state-dir", w.t.TempDir()}, args...)...)
	c.Env = append(c.Env, w.service()...)
	return start(w.t, c)
}

// service is the environment in which the file names the service.
func (w *handOver) service() []string {
	w.t.Helper()
	host, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	return []string{"SERVICE_HOST=" + host, "SERVICE_PORT=" + port}
}

// configure sets an option of a topic.
func (w *handOver) configure(topic, name, value string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}
	done, err := w.admin.AlterTopicConfigs(ctx, set, topic)
	if err == nil {
		err = done[0].Err
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// lastAssignment finds the partitions that an instance has, by its log.
func lastAssignment(lines []string) (partitions []int32) {
	for _, line := range lines {
		var entry struct {
			Msg        string
			Partitions json.RawMessage // of other lines: a number
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "partitions assigned" {
			partitions = nil
			_ = json.Unmarshal(entry.Partitions, &partitions) // none is what the callers wait through
		}
	}
	return partitions
}

// fillTable has the program make the topics and one row, and writes that row for all keys.
func (w *handOver) fillTable() {
	w.t.Helper()
	p := w.instance(w.configuration(false))
	p.await("ready ")
	w.await([]string{w.ask("template")})
	row := new(rowpb.Row)
	if err := proto.Unmarshal(w.records(handOverTable, 1)[0].Value, row); err != nil {
		w.t.Fatal(err)
	}
	p.kill()
	var failed atomic.Pointer[error]
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	for i := range handOverRows {
		row.CorrelationId = handOverID(fmt.Sprint(i))
		value, err := proto.Marshal(row)
		if err != nil {
			w.t.Fatal(err)
		}
		key := []byte(row.CorrelationId)
		k := &kgo.Record{Topic: handOverTable, Partition: wire.Partition(key, handOverPartitions), Key: key, Value: value}
		w.requests.Produce(ctx, k, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := w.requests.Flush(ctx); err != nil {
		w.t.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		w.t.Fatal(*err)
	}
}

func handOverID(key string) string {
	return wire.DefaultContract().ScopeID(key, echo, "UnaryEcho", handOverReplies, nil)
}

// repeat sends a request that has a row to each of the partitions, and waits for all answers.
func (w *handOver) repeat(partitions []int32) {
	w.t.Helper()
	calls := make([]string, len(partitions))
	for i, p := range partitions {
		key := 0
		for wire.Partition([]byte(handOverID(fmt.Sprint(key))), handOverPartitions) != p {
			key++
		}
		calls[i] = w.ask(fmt.Sprint(key))
	}
	w.await(calls)
}

// ask sends the request of a key, and answers the id of this attempt.
func (w *handOver) ask(key string) string {
	w.t.Helper()
	return w.askAmong(handOverPartitions, key, time.Time{})
}

// askAmong is ask where the topic has so many partitions, for a record that was written at a time; zero: now.
func (w *handOver) askAmong(partitions int32, key string, at time.Time) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id := handOverID(key)
	w.asked++
	call := fmt.Sprintf("%s-%d-%s", w.t.Name(), w.asked, key)
	headers := kafkaHeaders(wire.DefaultContract().EncodeRequest(wire.Request{
		Service: echo, Method: "UnaryEcho", ReplyTo: handOverReplies, CorrelationID: id, Call: call,
		Metadata: wire.Metadata{{Name: "idempotency-key", Value: key}},
	}, nil))
	record := func(value []byte) *kgo.Record {
		return &kgo.Record{Topic: handOverRequests, Partition: wire.Partition([]byte(id), partitions),
			Key: []byte(id), Value: value, Headers: headers, Timestamp: at}
	}
	if err := w.requests.ProduceSync(ctx, record([]byte(handOverMessage)), record(nil)).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	return call
}

// await waits until all attempts are answered with what the service said once.
func (w *handOver) await(calls []string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	open := map[string]bool{}
	for _, call := range calls {
		open[call] = true
	}
	messages := map[string]string{}
	for len(open) > 0 {
		fetches := w.replies.PollFetches(ctx)
		if ctx.Err() != nil {
			w.t.Fatalf("not answered: %v", open)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			r, err := wire.DefaultContract().DecodeReply(wireHeaders(k))
			if err != nil {
				w.t.Fatalf("%s/%d@%d: %v", k.Topic, k.Partition, k.Offset, err)
			}
			if k.Value != nil {
				messages[r.Call] = string(k.Value)
				return
			}
			if r.Status != codes.OK || messages[r.Call] != handOverMessage {
				w.t.Fatalf("attempt %s is answered %v %q with message %q", r.Call, r.Status, r.Message, messages[r.Call])
			}
			delete(open, r.Call)
		})
	}
}

// awaitNoMembers waits until the group has forgotten the instances that ran before.
func (w *handOver) awaitNoMembers() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for n := w.members(); n > 0; n = w.members() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			w.t.Fatalf("the group has %d members yet", n)
		}
	}
}

// members is how many members the group has.
func (w *handOver) members() int {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	groups, err := w.admin.DescribeGroups(ctx, handOverGroup)
	if err == nil {
		err = groups.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return len(groups[handOverGroup].Members)
}
