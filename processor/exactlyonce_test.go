package processor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// exactly has all that is written for a request be committed in one transaction with its offset.
func exactly(r *topology.Remote) { r.Processing.Guarantee = topology.GuaranteeExactlyOnce }

// sendCalls sends the requests from to to-1, with a key and an attempt of their own each.
func (b *testbench) sendCalls(from, to int) {
	b.t.Helper()
	var records []wire.Record
	for i := from; i < to; i++ {
		key := strconv.Itoa(i)
		r := attempt(key, "call "+key)
		r.Deadline = time.Now().Add(5 * time.Minute)
		records = append(records, message(r, key), end(r))
	}
	b.produce(records...)
}

// wantOnce waits until all requests are finished. Who reads what is committed must see one complete reply to each of the first n that sendCalls has sent,
// one row, and nothing else.
func (b *testbench) wantOnce(n int) {
	b.t.Helper()
	b.committed()
	got := map[string]string{}
	for _, r := range b.log(replies) {
		reply, err := wire.DefaultContract().DecodeReply(r.Headers)
		if err != nil {
			b.t.Fatal(err)
		}
		number, ok := reply.Number.Get()
		if !ok {
			number = -1
		}
		got[reply.Call] += fmt.Sprintf("%s=%q %d %v; ", reply.Call, r.Value, number, reply.Status)
	}
	rows := map[string]int{}
	for _, r := range b.log(b.remote.Table) {
		rows[string(r.Key)]++
	}
	for i := range n {
		key := strconv.Itoa(i)
		call := "call " + key
		if want := fmt.Sprintf("%s=%q 0 OK; %s=%q 1 OK; ", call, key, call, ""); got[call] != want {
			b.t.Errorf("the records of the reply to %q are %s", call, got[call])
		}
		if id := attempt(key, "").CorrelationID; rows[id] != 1 {
			b.t.Errorf("%d rows of %q are committed", rows[id], key)
		}
	}
	if len(got) != n || len(rows) != n {
		b.t.Errorf("%d replies and %d rows are committed, want %d", len(got), len(rows), n)
	}
	offsets, err := b.admin.FetchOffsets(context.Background(), b.remote.Group)
	if err != nil {
		b.t.Fatal(err)
	}
	for partition := range b.partitions {
		if at, ok := offsets.Lookup(requests, partition); ok && at.Metadata != "" {
			b.t.Errorf("partition %d: metadata %q", partition, at.Metadata)
		}
	}
}

// faults are for requests that would be answered well otherwise.
func faults(key kmsg.Key, err *kerr.Error, count int, change ...func(*kfake.Fault)) func(*testbench) {
	return func(b *testbench) {
		f := kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: count}
		for _, c := range change {
			c(&f)
		}
		b.kafka.Cluster().Fault(f)
	}
}

func of(topic string) func(*kfake.Fault) { return func(f *kfake.Fault) { f.Topic = topic } }

// withoutAnswer has the first request of a kind that is of a topic, or of any, be done, or not, and its connection end then.
func withoutAnswer(key kmsg.Key, topic string, done bool) func(*testbench) {
	return func(b *testbench) {
		b.interrupt(key, topic, done, func() {})
	}
}

// interrupt has the first request of a kind be done, or not; its connection ends when then has returned.
func (b *testbench) interrupt(key kmsg.Key, topic string, done bool, then func()) {
	cluster := b.kafka.Cluster()
	var first atomic.Bool
	cluster.ControlKey(int16(key), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !concerns(request, topic) || !first.CompareAndSwap(false, true) {
			return nil, nil, false
		}
		cluster.SleepControl(func() {
			if done {
				b.repeat(request)
			}
			then()
		})
		return nil, errors.New("connection lost"), true
	})
}

// concerns reports whether a request is one of a transaction, and writes to a topic; "": to any.
func concerns(request kmsg.Request, topic string) bool {
	produce, ok := request.(*kmsg.ProduceRequest)
	if !ok {
		return true
	}
	if produce.TransactionID == nil {
		return false
	}
	for _, t := range produce.Topics {
		if topic == "" || t.Topic == topic {
			return true
		}
	}
	return false
}

// repeat has the broker do what was asked, as the same client.
func (b *testbench) repeat(request kmsg.Request) {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(request.Key(), request.GetVersion())
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.MaxVersions(versions))
	if err != nil {
		b.t.Error(err)
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	response, err := client.Broker(0).Request(ctx, request)
	if err != nil {
		b.t.Errorf("%T: %v", request, err)
		return
	}
	var codes []int16
	switch r := response.(type) {
	case *kmsg.EndTxnResponse:
		codes = append(codes, r.ErrorCode)
	case *kmsg.ProduceResponse:
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
	case *kmsg.TxnOffsetCommitResponse:
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
	}
	for _, code := range codes {
		if err := kerr.ErrorForCode(code); err != nil {
			b.t.Errorf("%T: %v", request, err)
		}
	}
}

// A broker that fails at any step of a transaction costs at most a new processor.
func TestBrokerFailsInATransaction(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		plant func(*testbench)
		ends  int // processors
	}{
		{"rows are refused", faults(kmsg.Produce, kerr.PolicyViolation, 1, of("test-remote-table")), 1},
		{"replies are refused", faults(kmsg.Produce, kerr.InvalidRecord, 1, of(replies)), 1},
		{"rows find no leader", faults(kmsg.Produce, kerr.NotLeaderForPartition, 3, of("test-remote-table")), 0},
		{"replies are written late", faults(kmsg.Produce, kerr.RequestTimedOut, 2, of(replies)), 0},
		{"the connection ends before rows", withoutAnswer(kmsg.Produce, "test-remote-table", false), 0},
		{"the connection ends after rows", withoutAnswer(kmsg.Produce, "test-remote-table", true), 0},
		{"the connection ends after replies", withoutAnswer(kmsg.Produce, replies, true), 0},
		{"the producer is fenced at rows", faults(kmsg.Produce, kerr.InvalidProducerEpoch, 1, of("test-remote-table")), 1},
		{"the coordinator of the group loads", faults(kmsg.TxnOffsetCommit, kerr.CoordinatorLoadInProgress, 3), 0},
		{"the coordinator of the group has moved", faults(kmsg.TxnOffsetCommit, kerr.NotCoordinator, 2), 0},
		{"offsets are written late", faults(kmsg.TxnOffsetCommit, kerr.RequestTimedOut, 2), 0},
		{"another generation", faults(kmsg.TxnOffsetCommit, kerr.IllegalGeneration, 1), 1},
		{"an unknown member", faults(kmsg.TxnOffsetCommit, kerr.UnknownMemberID, 1), 1},
		{"a fenced member", faults(kmsg.TxnOffsetCommit, kerr.FencedInstanceID, 1), 1},
		{"the connection ends before offsets", withoutAnswer(kmsg.TxnOffsetCommit, "", false), 0},
		{"the connection ends after offsets", withoutAnswer(kmsg.TxnOffsetCommit, "", true), 0},
		{"the coordinator loads at the end", faults(kmsg.EndTxn, kerr.CoordinatorLoadInProgress, 3), 0},
		{"the coordinator has moved at the end", faults(kmsg.EndTxn, kerr.NotCoordinator, 2), 0},
		{"the coordinator is busy at the end", faults(kmsg.EndTxn, kerr.ConcurrentTransactions, 3), 0},
		{"the producer is fenced at the end", faults(kmsg.EndTxn, kerr.ProducerFenced, 1), 1},
		{"an old epoch at the end", faults(kmsg.EndTxn, kerr.InvalidProducerEpoch, 1), 1},
		{"another state at the end", faults(kmsg.EndTxn, kerr.InvalidTxnState, 1), 1},
		{"an unknown producer at the end", faults(kmsg.EndTxn, kerr.InvalidProducerIDMapping, 1), 1},
		{"the connection ends before the end", withoutAnswer(kmsg.EndTxn, "", false), 0},
		{"the connection ends after the end", withoutAnswer(kmsg.EndTxn, "", true), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2, exactly)
			log := new(logtest.Lines)
			b.heard = log
			i := b.started()
			b.sendCalls(0, 10)
			b.wantOnce(10)
			test.plant(b)
			b.sendCalls(10, 30)
			b.wantOnce(30)
			b.ready(i)
			b.sendCalls(30, 40)
			b.wantOnce(40)
			if n := log.Count(ended); n != test.ends {
				t.Errorf("%d processors have ended, want %d", n, test.ends)
			}
			for n := range 40 {
				if row, err := i.Row(attempt(strconv.Itoa(n), "").CorrelationID); err != nil || row == nil {
					t.Errorf("the row of %d is %v, %v", n, row, err)
				}
			}
			i.stop()
			if n := len(b.service.received()); test.ends == 0 && n != 40 {
				t.Errorf("%d calls, want 40", n)
			}
		})
	}
}

// What a transaction writes is nobody's before it is committed, and never where it is aborted.
func TestRowsOfAbortedTransactionsAreNotShown(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, exactly)
	i := b.started()
	b.sendCalls(0, 1)
	b.wantOnce(1)
	reached, goOn := make(chan struct{}), make(chan struct{})
	var executions atomic.Int32
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		return fmt.Appendf(nil, "%s: execution %d", call.message, executions.Add(1)), nil
	})
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.EndTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		close(reached)
		cluster.SleepControl(func() { <-goOn })
		response := request.ResponseKind().(*kmsg.EndTxnResponse)
		response.ErrorCode = kerr.InvalidTxnState.Code
		return response, nil, true
	})
	r := attempt("k", "a")
	b.send(r, "hi")
	<-reached
	if row, err := i.Row(r.CorrelationID); row != nil || err != nil {
		t.Errorf("the row of an open transaction is %v, %v", row, err)
	}
	close(goOn)
	b.results(2)["a"].check(t, codes.OK, "", "hi: execution 2")
	only(t, b.answers(), "a")
	row, err := i.Row(r.CorrelationID)
	if err != nil || row == nil || string(row.Messages[0]) != "hi: execution 2" {
		t.Errorf("the row is %v, %v", row, err)
	}
	i.stop()
}

// The process may end at any step of a transaction. The next one, of the same instance or of another one, goes on.
func TestKilledInATransaction(t *testing.T) {
	t.Parallel()
	for _, step := range []struct {
		name  string
		key   kmsg.Key
		topic string
		done  bool
	}{
		{"before rows", kmsg.Produce, "test-remote-table", false},
		{"after rows", kmsg.Produce, "test-remote-table", true},
		{"before replies", kmsg.Produce, replies, false},
		{"after replies", kmsg.Produce, replies, true},
		{"before offsets", kmsg.TxnOffsetCommit, "", false},
		{"after offsets", kmsg.TxnOffsetCommit, "", true},
		{"before the end", kmsg.EndTxn, "", false},
		{"after the end", kmsg.EndTxn, "", true},
	} {
		for _, same := range []bool{true, false} {
			name := step.name + ", then the same instance"
			if !same {
				name = step.name + ", then another instance"
			}
			t.Run(name, func(t *testing.T) {
				if !same && testing.Short() {
					t.Skip("waits until the session of the first instance and its transaction have timed out; CI runs it")
				}
				t.Parallel()
				b := newBench(t, 2, exactly)
				c := b.startChild(t, 0)
				c.says("the processor is ready")
				b.sendCalls(0, 10)
				b.wantOnce(10)
				reached, killed := make(chan struct{}), make(chan struct{})
				b.interrupt(step.key, step.topic, step.done, func() {
					close(reached)
					<-killed
				})
				b.sendCalls(10, 30)
				<-reached
				c.kill()
				close(killed)
				dir := c.dir
				if !same {
					dir = t.TempDir()
				}
				i := b.start(dir)
				b.sendCalls(30, 40)
				b.wantOnce(40)
				b.ready(i)
				for n := range 40 {
					if row, err := i.Row(attempt(strconv.Itoa(n), "").CorrelationID); err != nil || row == nil {
						t.Errorf("the row of %d is %v, %v", n, row, err)
					}
				}
				i.stop()
			})
		}
	}
}

// Of two that have the same instance id, and so the same transactional id, by mistake, each fences the other. Nothing is answered twice, and the
// one that stays goes on alone.
func TestTwoWithOneTransactionalID(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, exactly)
	first := b.started()
	b.sendCalls(0, 20)
	id, err := os.ReadFile(filepath.Join(first.dir, "instance-id"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "instance-id"), id, 0o600); err != nil {
		t.Fatal(err)
	}
	second := b.start(dir)
	b.sendCalls(20, 100)
	b.wantOnce(100)
	first.stop()
	b.ready(second)
	b.sendCalls(100, 120)
	b.wantOnce(120)
	second.stop()
}

// A broker that does not answer for long costs a new processor, and nothing of the transaction is seen: the next one aborts it, or its time-out does.
func TestBrokerHangsInATransaction(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a broker has been silent for too long; CI runs it")
	}
	t.Parallel()
	for _, step := range []struct {
		name string
		key  kmsg.Key
		done bool
	}{
		{"when its records are written", kmsg.Produce, true},
		{"before its offsets", kmsg.TxnOffsetCommit, false},
		{"before its end", kmsg.EndTxn, false},
	} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2, exactly)
			i := b.started()
			b.sendCalls(0, 10)
			b.wantOnce(10)
			aborted := func() { b.eventually("the transaction is aborted", func() bool { return !b.transacting() }) }
			if step.done {
				b.interrupt(step.key, "", true, aborted)
			} else {
				var over atomic.Bool
				cluster := b.kafka.Cluster()
				cluster.ControlKey(int16(step.key), func(kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					if !over.Load() { // also when it is asked again
						cluster.SleepControl(aborted)
						over.Store(true)
					}
					return nil, nil, false
				})
			}
			b.sendCalls(10, 30)
			b.wantOnce(30)
			b.ready(i)
			b.sendCalls(30, 40)
			b.wantOnce(40)
			i.stop()
		})
	}
}

// transacting reports whether a transaction is open.
func (b *testbench) transacting() bool {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := b.admin.ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil {
		b.t.Error(err)
		return false
	}
	return len(all) > 0
}

// An instance that is frozen for longer than its session and its transaction last commits nothing of what it had begun.
func TestFrozenInATransaction(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a session and a transaction have timed out; CI runs it")
	}
	t.Parallel()
	for _, step := range []struct {
		name string
		key  kmsg.Key
	}{{"before its offsets", kmsg.TxnOffsetCommit}, {"before its end", kmsg.EndTxn}} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2, exactly)
			zombie := b.startChild(t, 0)
			zombie.says("the processor is ready")
			b.sendCalls(0, 10)
			b.wantOnce(10)
			reached, goOn := make(chan struct{}), make(chan struct{})
			b.interrupt(step.key, "", false, func() {
				close(reached)
				<-goOn
			})
			b.sendCalls(10, 30)
			<-reached
			zombie.signal(syscall.SIGSTOP)
			heir := b.started()
			b.sendCalls(30, 40)
			b.wantOnce(40)
			close(goOn)
			zombie.signal(syscall.SIGCONT)
			zombie.says("partitions assigned")
			b.sendCalls(40, 60)
			b.wantOnce(60)
			heir.stop()
		})
	}
}

// Instances that come and go in order cost nothing: nothing is called again, nor answered again.
func TestOrderlyStopsWithExactlyOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, exactly)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	running := make([]*instance, len(dirs))
	for i, dir := range dirs {
		running[i] = b.start(dir)
	}
	for _, i := range running {
		b.ready(i)
	}
	stop := make(chan struct{})
	sent := 0
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				b.sendCalls(sent, sent+20)
				sent += 20
			}
		}
	})
	for i, dir := range dirs {
		running[i].stop()
		running[i] = b.start(dir)
		b.ready(running[i])
	}
	for _, i := range running[1:] {
		i.stop()
		b.evict(i.dir)
	}
	close(stop)
	load.Wait()
	b.wantOnce(sent)
	if n := len(b.service.received()); n != sent {
		t.Errorf("%d calls, want %d", n, sent)
	}
	running[0].stop()
}

// Behind one that is not finished, no more is read than the metadata of its offset can tell of. So what was answered is not answered again.
func TestSlowHeadWithExactlyOnce(t *testing.T) {
	t.Parallel()
	const n = 20_000
	b := newBench(t, 1, exactly, func(r *topology.Remote) { r.Processing.MaxInFlight = 100_000 })
	b.quiet = true
	open := b.service.gateFor("0")
	c := b.startChild(t, 0)
	var records []wire.Record
	for i := range n {
		key := strconv.Itoa(i)
		r := attempt(key, "call "+key)
		r.Deadline = time.Now().Add(5 * time.Minute)
		records = append(records, message(r, key))
	}
	b.produce(records[:1]...)
	b.service.wait(t, 1)
	b.produce(records[1:]...)
	b.service.wait(t, 12_000)
	c.kill()
	i := b.start(c.dir)
	b.ready(i)
	b.service.wait(t, 1_000)
	i.stop()
	before := len(b.service.received())
	if before < 13_000 || before > 17_500 {
		t.Errorf("%d calls behind one that is not finished", before)
	}
	open()
	i = b.start(c.dir)
	b.wantOnce(n)
	i.stop()
}

// answeredOnce is for the end of each test: whatever has happened, with exactly-once no record of a reply to an attempt is committed more often than the
// attempt was on a request topic.
func (b *testbench) answeredOnce() {
	if _, test := b.t.(*testing.T); !test || !b.remote.Processing.ExactlyOnce() || b.forged || b.t.Failed() || b.t.Skipped() {
		return
	}
	there, err := b.admin.ListTopics(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	asked := map[string]int{} // by attempt
	name := func(r wire.Record) string {
		id, call := wire.DefaultContract().Names(r.Headers)
		return fmt.Sprintf("attempt %q at %q", call, id)
	}
	var replyTopics []string
	for _, route := range b.remote.Routes {
		if there.Has(route.ReplyTo) && !slices.Contains(replyTopics, route.ReplyTo) {
			replyTopics = append(replyTopics, route.ReplyTo)
		}
	}
	for topic := range there {
		if topic == b.remote.Table || topic == b.remote.Loop || topic == b.remote.Processing.DeadLetter || slices.Contains(replyTopics, topic) {
			continue
		}
		for _, r := range b.log(topic) {
			if n, ok := wire.NumberOf(r.Headers).Get(); r.Value != nil && (!ok || n == 0) {
				asked[name(r)]++
			}
		}
	}
	records := map[string]int{}
	for _, topic := range replyTopics {
		for _, r := range b.log(topic) {
			reply, err := wire.DefaultContract().DecodeReply(r.Headers)
			if err != nil || reply.Call == "" {
				continue // one to an event, or to who tells no attempts apart
			}
			n, numbered := reply.Number.Get()
			record := fmt.Sprint(name(r), " ", n, numbered, r.Value == nil)
			records[record]++
			if is, most := records[record], max(1, asked[name(r)]); is > most && (numbered || r.Value == nil) {
				b.t.Errorf("record %d of the reply to %s is committed %d times, and the attempt was made %d times", n, name(r), is, most)
			}
		}
	}
}

// refuses has Kafka refuse batches for a topic that have a record with a value, as a broker does that validates them.
func (b *testbench) refuses(topic, value string, err *kerr.Error) (refused *atomic.Int32) {
	refused = new(atomic.Int32)
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		poisoned := false
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range produce.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				fetched := &kmsg.FetchResponseTopicPartition{RecordBatches: p.Records}
				got, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: topic}, fetched, kgo.DefaultDecompressor(), nil)
				of := kmsg.NewProduceResponseTopicPartition()
				of.Partition, of.ErrorCode = p.Partition, kerr.NotLeaderForPartition.Code // the others are sent again
				if t.Topic == topic && slices.ContainsFunc(got.Records, func(r *kgo.Record) bool { return string(r.Value) == value }) {
					poisoned, of.ErrorCode = true, err.Code
				}
				answer.Partitions = append(answer.Partitions, of)
			}
			response.Topics = append(response.Topics, answer)
		}
		if !poisoned {
			return nil, nil, false
		}
		refused.Add(1)
		return response, nil, true
	})
	return refused
}

// A reply that the broker never takes becomes a dead letter, and all others are answered: by one processor that finds out which it is, and another one.
func TestReplyThatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, exactly)
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	refused := b.refuses(replies, "poison", kerr.InvalidRecord)
	b.sendCalls(0, 200)
	b.send(attempt("poison", "poison"), "poison")
	b.sendCalls(200, 400)
	b.committed()
	b.ready(i)
	letters := b.log(b.remote.Processing.DeadLetter)
	if len(letters) != 1 || string(letters[0].Value) != "poison" {
		t.Errorf("the dead letters are %v", describe(letters))
	}
	if got := b.answers(); len(got) != 400 {
		t.Errorf("%d attempts are answered, want 400", len(got))
	}
	if n, m := log.Count(ended), refused.Load(); n != 2 || m != 2 {
		t.Errorf("%d processors have ended, and %d records were refused, want 2", n, m)
	}
	i.stop()
}

// A topic may come to take less than it did. What does not fit any more costs a new processor, which knows better.
func TestTopicThatTakesLess(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{replies, "test-remote-table"} {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, exactly)
			log := new(logtest.Lines)
			b.heard = log
			b.started()
			b.sendCalls(0, 10)
			b.wantOnce(10)
			b.service.answers(func(_ context.Context, call received) ([]byte, error) {
				if call.message == "large" {
					return []byte(incompressible(200_000)), nil
				}
				return []byte(call.message), nil
			})
			b.alter(topic, "100000")
			b.send(attempt("large", "large"), "large")
			b.sendCalls(10, 30)
			b.results(31)["large"].check(t, codes.ResourceExhausted, "")
			b.committed()
			if n := log.Count(ended); n > 2 {
				t.Errorf("%d processors have ended", n)
			}
		})
	}
}
