package processor_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// tableGate holds the produce requests for the table topic back until it is opened, and notes the topics of each
// produce request of the processor, in the order in which they were let through.
type tableGate struct {
	held chan struct{} // one token a request that is held
	let  chan struct{} // takes one token to let a request through

	mu       sync.Mutex
	produced [][]string
}

func (b *testbench) holdTable() *tableGate {
	g := &tableGate{held: make(chan struct{}, 100), let: make(chan struct{})}
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		var topics []string
		for _, t := range request.(*kmsg.ProduceRequest).Topics {
			topics = append(topics, t.Topic)
		}
		if slices.Contains(topics, "") || slices.Contains(topics, requests) {
			return nil, nil, false // the test's own; its client names topics by their ids
		}
		if slices.Contains(topics, b.remote.Table) {
			cluster.SleepControl(func() {
				g.held <- struct{}{}
				<-g.let
			})
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.produced = append(g.produced, topics)
		return nil, nil, false
	})
	return g
}

// A reply that is seen although its row is lost would be contradicted by the next execution.
func TestReplyFollowsTheAcknowledgementOfItsRow(t *testing.T) {
	atLeastOnce(t, "a reply need not wait for its row: they are committed together")
	t.Parallel()
	b := newBench(t, 1)
	// Replies go to another broker than rows: they need not wait in the same connection.
	cluster := b.kafka.Cluster()
	node, _, err := cluster.AddNode(-1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for partition := range int32(3) {
		if err := cluster.MoveTopicPartition(replies, partition, node); err != nil {
			t.Fatal(err)
		}
	}
	b.createTable()
	if err := cluster.MoveTopicPartition(b.remote.Table, 0, 0); err != nil {
		t.Fatal(err)
	}
	b.started()
	gate := b.holdTable()
	// The reply to a refusal needs no row. When it has been written, an earlier one to the same partition would
	// have been, too.
	fence := func(call string) wire.Request {
		r := attempt("k", call)
		r.Service = ""
		return r
	}
	for _, call := range []string{"execution", "stored result"} {
		b.send(attempt("k", call), "one")
		receive(t, gate.held)
		b.send(fence("fence of "+call), "")
		got := b.results(1)
		if got["fence of "+call].Status != codes.Internal {
			t.Fatalf("a reply came before the row was acknowledged: %v", got)
		}
		gate.let <- struct{}{}
		b.results(1)[call].check(t, codes.OK, "", "one")
	}
	b.committed()
	b.wantExecuted("one")
	table, reply := []string{b.remote.Table}, []string{replies}
	want := [][]string{reply, table, reply, table, reply}
	gate.mu.Lock()
	defer gate.mu.Unlock()
	// One reply may take several requests.
	if got := slices.CompactFunc(gate.produced, slices.Equal[[]string]); !slices.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("the produce requests are for %v, want %v", got, want)
	}
}

func receive(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("no table row was produced")
	}
}

func TestProduceErrorsAreSurvived(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		topic func(*testbench) string
		err   *kerr.Error
		count int
	}{
		{"row: retriable", func(b *testbench) string { return b.remote.Table }, kerr.NotLeaderForPartition, 3},
		{"row: fatal", func(b *testbench) string { return b.remote.Table }, kerr.PolicyViolation, 1},
		{"reply: retriable", func(*testbench) string { return replies }, kerr.NotLeaderForPartition, 3},
		{"reply: fatal", func(*testbench) string { return replies }, kerr.PolicyViolation, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			b.started()
			fault := b.kafka.Cluster().Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Topic: test.topic(b), Err: test.err, Count: test.count,
			})
			b.send(attempt("k", "a"), "one")
			if fatal := test.count == 1; fatal {
				// What else was on its way is written, which may be the end of a reply without its message. The whole
				// reply follows: it is the last that is written for the attempt.
				b.eventually("the whole reply", func() bool {
					answers := b.answers()["a"]
					return len(answers) > 0 && slices.Equal(answers[len(answers)-1].messages, []string{"one"})
				})
			} else {
				only(t, b.answers(), "a").check(t, codes.OK, "", "one")
			}
			b.send(attempt("k", "b"), "one")
			only(t, b.answers(), "b").check(t, codes.OK, "", "one")
			if hits := fault.Hits(); hits != test.count {
				t.Errorf("%d produce requests failed, want %d", hits, test.count)
			}
			// Also after the fatal ones, by default: the row is in the local store, and is written to the table once more.
			if test.count == 1 {
				b.wantExecuted(b.executions("one")...)
			} else {
				b.wantExecuted("one")
			}
			if rows := b.log(b.remote.Table); len(rows) < 2 {
				t.Errorf("rows on the table topic: %v", describe(rows))
			}
		})
	}
}
