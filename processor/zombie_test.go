package processor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// An instance that is frozen for longer than its session time-out loses its partitions, and does not know it when it
// goes on. Results that it gets then must not be seen: another instance has answered already, and may have got
// other results.
func TestFrozenInstanceRepliesForNothingThatItLost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes most of a minute, and TestFrozenInstanceSendsNothingThatWasOnItsWay freezes an instance too; CI runs both")
	}
	t.Parallel()
	const n = 40
	const slow = 3 * time.Second // what the answer to its heartbeat takes
	b := newBench(t, 2)
	var mu sync.Mutex
	executions := map[string]int{}
	thaw := make(chan struct{})
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		mu.Lock()
		executions[call.message]++
		this := executions[call.message]
		mu.Unlock()
		if this == 1 {
			<-thaw // also when the caller has gone
		}
		return []byte(fmt.Sprintf("%s: execution %d", call.message, this)), nil
	})
	zombie := b.startChild(t, 0)
	var sent []wire.Request
	for i := range n {
		key := strconv.Itoa(i)
		r := attempt(key, "call "+key)
		r.Deadline = time.Now().Add(5 * time.Minute)
		sent = append(sent, r)
		b.send(r, key)
	}
	b.service.wait(t, n)
	zombie.signal(syscall.SIGSTOP)

	heir := b.started()
	got := b.results(n)
	for i := range n {
		key := strconv.Itoa(i)
		got["call "+key].check(t, codes.OK, "", key+": execution 2")
	}
	b.committed()

	// Its calls return while it is frozen, and the first answer to its heartbeat takes its time: until then it cannot know.
	id, err := os.ReadFile(filepath.Join(zombie.dir, "instance-id"))
	if err != nil {
		t.Fatal(err)
	}
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Heartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		if instance := request.(*kmsg.HeartbeatRequest).InstanceID; instance == nil || *instance != strings.TrimSpace(string(id)) {
			cluster.KeepControl()
			return nil, nil, false
		}
		cluster.SleepControl(func() {
			select {
			case <-time.After(slow):
			case <-t.Context().Done(): // the test was faster
			}
		})
		return nil, nil, false
	})
	close(thaw)
	zombie.signal(syscall.SIGCONT)
	zombie.says("the process stood still")
	// It joins the group again and gets a partition.
	zombie.says("partitions assigned")
	b.eventually("a group of two", func() bool {
		groups, err := b.admin.DescribeGroups(context.Background(), b.remote.Group)
		if err != nil {
			t.Fatal(err)
		}
		g := groups[b.remote.Group]
		return g.State == "Stable" && len(g.Members) == 2
	})
	for _, r := range sent {
		r.Call = "again " + r.Call
		b.produce(message(r, r.Metadata[0].Value), end(r))
	}
	answers := b.answers()
	for i := range n {
		key := strconv.Itoa(i)
		first := only(t, answers, "call "+key)
		first.check(t, codes.OK, "", key+": execution 2")
		first.same(t, only(t, answers, "again call "+key))
	}
	for _, row := range b.log(b.remote.Table) {
		if text := string(row.Value); strings.Contains(text, "execution 1") {
			t.Errorf("a row of the frozen instance is on the table topic: %q", text)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for key, times := range executions {
		if times != 2 {
			t.Errorf("%s was executed %d times", key, times)
		}
	}
	heir.stop()
}

// Rows that were inside its producer at the freeze, sent already or waiting to be sent, must not be sent after it.
func TestFrozenInstanceSendsNothingThatWasOnItsWay(t *testing.T) {
	t.Parallel()
	const n = 200
	b := newBench(t, 2)
	var mu sync.Mutex
	executions := map[string]int{}
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		executions[call.message]++
		return []byte(fmt.Sprintf("%s: execution %d", call.message, executions[call.message])), nil
	})
	cluster := b.kafka.Cluster()
	reached, lost := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			if topic.Topic == b.remote.Table && first.CompareAndSwap(false, true) {
				close(reached)
				cluster.SleepControl(func() { <-lost })
				return nil, errors.New("connection lost"), true
			}
		}
		cluster.KeepControl()
		return nil, nil, false
	})
	zombie := b.startChild(t, 0)
	var sent []wire.Record
	for i := range n {
		key := strconv.Itoa(i)
		r := attempt(key, "call "+key)
		r.Deadline = time.Now().Add(5 * time.Minute)
		sent = append(sent, message(r, key), end(r))
	}
	b.produce(sent...) // at once: the producer of the instance gives a silent broker up after some seconds, and sends the rows again
	<-reached
	b.service.wait(t, n) // all but the first rows wait behind those that Kafka does not acknowledge
	zombie.signal(syscall.SIGSTOP)

	b.started()
	got := b.results(n)
	b.committed()
	close(lost)
	zombie.signal(syscall.SIGCONT)
	zombie.says("the process stood still")
	zombie.says("partitions assigned") // when its producer is closed
	for i := range n {
		key := strconv.Itoa(i)
		got["call "+key].check(t, codes.OK, "", key+": execution 2")
	}
	for _, row := range b.log(b.remote.Table) {
		if text := string(row.Value); strings.Contains(text, "execution 1") {
			t.Fatalf("a row of the frozen instance is on the table topic: %q", text)
		}
	}
	for _, reply := range b.log(replies) {
		if text := string(reply.Value); strings.Contains(text, "execution 1") {
			t.Fatalf("a reply of the frozen instance is on its topic: %q", text)
		}
	}
}
