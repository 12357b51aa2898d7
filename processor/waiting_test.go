package processor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/processor"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// parking has requests wait in the table as soon as an attempt has failed.
func parking(r *topology.Remote) {
	r.Processing.RetryParkAfter = time.Nanosecond
	r.Processing.BreakerFailures = 0
}

// waitingRows are the rows of the table that wait, by key.
func (b *testbench) waitingRows() map[string]*rowpb.Row {
	b.t.Helper()
	all := map[string]*rowpb.Row{}
	for key, value := range b.latest() {
		if value == nil {
			continue
		}
		row, err := rowpb.Decode(value)
		if err != nil {
			b.t.Fatal(err)
		}
		if row.State == rowpb.State_STATE_WAITING {
			all[key] = row
		}
	}
	return all
}

// down makes all calls fail until up is called.
func (s *fakeService) down() (up func()) {
	var is atomic.Bool
	s.answers(func(_ context.Context, call received) ([]byte, error) {
		if !is.Load() {
			return nil, errDown
		}
		return []byte("re: " + call.message), nil
	})
	return func() { is.Store(true) }
}

func TestRequestsThatAreRetriedForLongWaitInTheTable(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, parking)
	i := b.started()
	up := b.service.down()
	const n = 20
	for k := range n {
		b.send(attempt(strconv.Itoa(k), strconv.Itoa(k)), strconv.Itoa(k))
	}
	b.committed() // although nothing is answered
	if got := b.log(replies); len(got) != 0 {
		t.Fatalf("replies: %v", describe(got))
	}
	rows := b.waitingRows()
	if len(rows) != n {
		t.Fatalf("%d rows wait, want %d", len(rows), n)
	}
	for key, row := range rows {
		if row.Status != int32(codes.Unavailable) || row.Attempts == 0 || row.Waiting.NextMs == 0 || row.Waiting.UntilMs <= row.Waiting.NextMs || row.ExpiresMs != 0 {
			t.Errorf("the row of %s: %v", key, row)
		}
	}
	up()
	for id, got := range b.results(n) {
		got.check(t, codes.OK, "", "re: "+id)
	}
	b.eventually("no request is in a row any more", func() bool {
		for k := range n {
			if row := i.row(t, strconv.Itoa(k)); row.GetState() != rowpb.State_STATE_FINAL || row.Waiting != nil {
				return false
			}
		}
		return true
	})
	if got := b.answers(); len(got) != n {
		t.Errorf("%d attempts were answered, want %d", len(got), n)
	}
	if letters := b.log(b.remote.Processing.DeadLetter); len(letters) != 0 {
		t.Errorf("dead letters: %v", describe(letters))
	}
}

// A waiting row is found by whoever gets its partition, with its own copy of the table or without.
func TestWaitingRowsAreRetriedAfterARestart(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]func(first string) string{
		"with the local store": func(first string) string { return first },
		"without":              func(string) string { return t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2, parking, func(r *topology.Remote) {
				r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = 200*time.Millisecond, 400*time.Millisecond, time.Hour
			})
			i := b.started()
			b.service.down()
			const n = 10
			for k := range n {
				b.send(attempt(strconv.Itoa(k), strconv.Itoa(k)), strconv.Itoa(k))
			}
			b.committed()
			attempts := i.row(t, "3").Attempts
			i.stop()
			b.evict(i.dir)
			b.service.failing(0)
			second := b.start(dir(i.dir))
			b.ready(second)
			for id, got := range b.results(n) {
				got.check(t, codes.OK, "", "re: "+id)
			}
			b.eventually("the row is final", func() bool { return second.row(t, "3").GetState() == rowpb.State_STATE_FINAL })
			if row := second.row(t, "3"); row.Attempts <= attempts {
				t.Errorf("the row has %d attempts, it had %d before", row.Attempts, attempts)
			}
		})
	}
}

func TestWaitingRequestsAreGivenUpAtMaxElapsed(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking, func(r *topology.Remote) { r.Processing.RetryMaxElapsed = 150 * time.Millisecond })
	i := b.started()
	b.service.down()
	sent := message(attempt("k", "a"), "one")
	b.produce(sent, message(attempt("k", "b"), "one"))
	got, letter := b.exhausted(2)
	got["a"].check(t, codes.Unavailable, "down for repair")
	got["a"].same(t, got["b"])
	calls := len(b.service.received())
	if row := i.row(t, "k"); int(row.Attempts) != calls || calls < 3 || row.State != rowpb.State_STATE_RETRYABLE {
		t.Errorf("after %d calls: %v", calls, row)
	}
	if string(letter.Key) != string(sent.Key) || string(letter.Value) != "one" || !slices.ContainsFunc(letter.Headers, func(h wire.Header) bool {
		return sameHeader(h, header("kafkagrpc.error.class", "retries_exhausted"))
	}) {
		t.Errorf("the letter is %v", describe([]wire.Record{letter}))
	}
	b.eventually("the row has no request any more", func() bool { return i.row(t, "k").Waiting == nil })
	// Its key may be asked again.
	b.service.failing(0)
	b.call(attempt("k", "c"), "one").check(t, codes.OK, "", "re: one")
}

func TestDuplicatesOfWaitingRequests(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking, func(r *topology.Remote) {
		r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = time.Minute, time.Minute, time.Hour
	})
	i := b.started()
	up := b.service.down()
	b.send(attempt("k", "a"), "one")
	b.committed()
	const n = 5
	for k := range n {
		b.send(attempt("k", fmt.Sprint("same ", k)), "one")
	}
	b.call(attempt("k", "other"), "two").check(t, codes.FailedPrecondition, "used with another request")
	b.committed()
	row := i.row(t, "k")
	if len(row.GetWaiting().GetRequests()) != n+1 {
		t.Fatalf("the row is %v", row)
	}
	late := attempt("k", "late")
	late.Deadline = soon()
	b.call(late, "one").check(t, codes.DeadlineExceeded, "the deadline passed while the request waited")
	canceled := attempt("k", "canceled")
	over := canceled
	over.Canceled = true
	b.produce(message(canceled, "one"), end(over))
	if got := b.results(1)["canceled"]; got.Status != codes.Canceled {
		t.Errorf("the cancelled one: %v", got)
	}
	b.committed()
	up()
	if err := i.RetryNow(t.Context(), request("k").CorrelationID, 0); err != nil {
		t.Fatal(err)
	}
	got := b.results(n + 1)
	got["a"].check(t, codes.OK, "", "re: one")
	for k := range n {
		got["a"].same(t, got[fmt.Sprint("same ", k)])
	}
	b.eventually("the row has no request any more", func() bool { return i.row(t, "k").Waiting == nil })
	for id, all := range b.answers() {
		if len(all) != 1 {
			t.Errorf("%s was answered %d times", id, len(all))
		}
	}
}

// cutProduce has Kafka take nothing for some topics until it is mended, and from who tried it meanwhile never: of a process that
// was killed, a request may come after its end.
func (b *testbench) cutProduce(topics ...string) (mend func()) {
	var mended atomic.Bool
	cut := map[int64]bool{} // producers; of the control function alone
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			if !slices.Contains(topics, topic.Topic) {
				continue
			}
			for _, p := range topic.Partitions {
				var batch kmsg.RecordBatch
				if err := batch.ReadFrom(p.Records); err != nil {
					return nil, err, true
				}
				if !mended.Load() {
					cut[batch.ProducerID] = true
				}
				if cut[batch.ProducerID] {
					return nil, errors.New("connection lost"), true
				}
			}
		}
		return nil, nil, false
	})
	return func() { mended.Store(true) }
}

// When a result is written and its replies are not, nothing but the row knows of them.
func TestCrashBetweenTheResultOfAWaitingRowAndItsReplies(t *testing.T) {
	atLeastOnce(t, "a result and its replies are committed together")
	t.Parallel()
	tests := []struct {
		name   string
		change func(*topology.Remote)
		works  bool // the service, at last
		status codes.Code
		state  rowpb.State
	}{
		{"with a result", func(*topology.Remote) {}, true, codes.OK, rowpb.State_STATE_FINAL},
		{"given up", func(r *topology.Remote) { r.Processing.RetryMaxElapsed = 500 * time.Millisecond }, false, codes.Unavailable, rowpb.State_STATE_RETRYABLE},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, parking, test.change)
			c := b.startChild(t, 0)
			up := b.service.down()
			mend := b.cutProduce(replies, b.remote.Processing.DeadLetter)
			b.produce(message(attempt("k", "a"), "one"), message(attempt("k", "b"), "one"))
			if test.works {
				b.service.wait(t, 2)
				up()
			}
			b.eventually("the result is in the table", func() bool {
				for _, value := range b.latest() {
					row, err := rowpb.Decode(value)
					if err != nil {
						t.Fatal(err)
					}
					return row.State == test.state && len(row.GetWaiting().GetRequests()) == 2
				}
				return false
			})
			b.committed() // nothing is read again
			c.kill()
			mend()
			calls := len(b.service.received())
			i := b.start(c.dir)
			b.ready(i)
			var got map[string]result
			if test.works {
				got = b.results(2)
			} else {
				var letter wire.Record
				got, letter = b.exhausted(2)
				if string(letter.Value) != "one" {
					t.Errorf("the letter is %v", describe([]wire.Record{letter}))
				}
			}
			for _, r := range got {
				if r.Status != test.status {
					t.Errorf("%v", r)
				}
			}
			b.eventually("the row has no request any more", func() bool { return i.row(t, "k").Waiting == nil })
			if got := len(b.service.received()); got != calls {
				t.Errorf("%d calls, want the %d of before", got, calls)
			}
			// The key is as any other again.
			b.service.failing(0)
			b.call(attempt("k", "c"), "one").check(t, codes.OK, "", "re: one")
		})
	}
}

// A result that Kafka did not take is in the local copy alone. Whoever answers from there writes it first.
func TestResultOfAWaitingRowThatTheChangelogLacks(t *testing.T) {
	atLeastOnce(t, "the local copy has nothing that the changelog lacks")
	t.Parallel()
	b := newBench(t, 1, parking, func(r *topology.Remote) {
		r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = time.Hour, time.Hour, 1000*time.Hour
	})
	i := b.started()
	b.service.down()
	r := attempt("k", "a")
	b.produce(message(r, "one"))
	b.committed()
	refuse := func() *kfake.FaultHandle {
		return b.kafka.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: b.remote.Table, Err: kerr.PolicyViolation, Count: 1})
	}
	refuse()
	b.service.wait(t, 1)
	open := b.service.gate()
	if err := i.RetryNow(t.Context(), r.CorrelationID, 0); !errors.Is(err, processor.ErrNotReady) {
		t.Errorf("a command whose row is refused: %v", err)
	}
	b.service.wait(t, 1) // the local copy has that it is due
	fault := refuse()
	open()
	b.results(1)
	only(t, b.answers(), "a").check(t, codes.OK, "", "one")
	if fault.Hits() != 1 {
		t.Errorf("%d produce requests failed, want that of the result", fault.Hits())
	}
	unanswered := 0 // rows with the result, and the request that had not got it yet
	for _, record := range b.log(b.remote.Table) {
		if row, err := rowpb.Decode(record.Value); err == nil && row.State == rowpb.State_STATE_FINAL && row.Waiting != nil {
			unanswered++
		}
	}
	if unanswered != 1 {
		t.Errorf("the changelog had the result %d times before it was given, want once", unanswered)
	}
	// The first, and one that gave the result; in between, one that the end of the processor may have cut.
	if got := len(b.service.received()); got != 2 && got != 3 {
		t.Errorf("%d calls", got)
	}
}

func TestWaitingRowsSurviveKills(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, parking, func(r *topology.Remote) { r.Processing.RetryMaxElapsed = time.Hour })
	var mended atomic.Bool
	var n atomic.Int32
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		if n.Add(1)%4 != 0 && !mended.Load() {
			return nil, errDown
		}
		return []byte("re: " + call.message), nil
	})
	const keys, kills = 40, 4
	dir := t.TempDir()
	seen := 0
	for round := range kills {
		c := b.startChildIn(t, dir, 0)
		for k := range keys {
			key := fmt.Sprintf("%d-%d", round, k%(keys-10)) // some twice
			b.produce(message(attempt(key, fmt.Sprintf("%d-%d", round, k)), key))
		}
		seen += keys
		b.service.wait(t, keys)
		c.kill()
	}
	mended.Store(true)
	i := b.start(dir)
	b.ready(i)
	b.eventually("nothing waits", func() bool { return len(b.waitingRows()) == 0 })
	for id, all := range b.answersTo(seen) {
		for _, got := range all {
			if got.Status != codes.OK {
				t.Errorf("%s: %v", id, got)
			}
		}
	}
	b.eventually("no row has requests", func() bool {
		for _, value := range b.latest() {
			if row, err := rowpb.Decode(value); err != nil || row.Waiting != nil {
				return false
			}
		}
		return true
	})
}

// A request that a row has no room for keeps its offset.
func TestRequestTooLargeToWait(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking)
	log := new(logtest.Lines)
	b.heard = log
	b.limit(b.remote.Table, "100000")
	i := b.started()
	up := b.service.down()
	large := strings.Repeat("x", 120_000)
	b.produce(message(attempt("k", "a"), large))
	b.service.wait(t, 5) // it goes on
	if log.Count("too large to wait") == 0 {
		t.Error("the log says nothing")
	}
	if row := i.row(t, "k"); row != nil {
		t.Errorf("the row is %v", row)
	}
	up()
	b.results(1)
	b.committed()
}

func TestGivingUpWaitingRequests(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking, func(r *topology.Remote) {
		r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = time.Hour, time.Hour, 1000*time.Hour
	})
	i := b.started()
	key := request("k").CorrelationID
	if err := i.GiveUp(t.Context(), key, 0); !errors.Is(err, processor.ErrNotWaiting) {
		t.Errorf("of an unknown key: %v", err)
	}
	b.service.down()
	b.produce(message(attempt("k", "a"), "one"), message(attempt("k", "b"), "one"))
	b.committed()
	if err := i.GiveUp(t.Context(), key, 0); err != nil {
		t.Fatal(err)
	}
	got, letter := b.exhausted(2)
	got["a"].check(t, codes.Unavailable, "down for repair")
	got["a"].same(t, got["b"])
	if !slices.ContainsFunc(letter.Headers, func(h wire.Header) bool { return sameHeader(h, header("kafkagrpc.error.class", "given_up")) }) {
		t.Errorf("the letter is %v", describe([]wire.Record{letter}))
	}
	if got := len(b.service.received()); got != 1 {
		t.Errorf("%d calls", got)
	}
	b.eventually("the row has no request any more", func() bool {
		row := i.row(t, "k")
		return row.State == rowpb.State_STATE_RETRYABLE && row.Waiting == nil
	})
}

// While the breaker is open rows are not called one after the other: a probe at a time is.
func TestOneProbeForAllRowsThatWait(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) {
		r.Processing.RetryParkAfter = time.Millisecond
		r.Processing.BreakerFailures, r.Processing.BreakerOpen = 1, 50*time.Millisecond
		r.Processing.MaxInFlight = 10
	})
	i := b.started()
	var mu sync.Mutex
	var tries []time.Time
	var is atomic.Bool
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if is.Load() {
			return []byte("re: " + call.message), nil
		}
		tries = append(tries, time.Now())
		return nil, errDown
	})
	const n = 200
	var records []wire.Record
	for k := range n {
		records = append(records, message(attempt(strconv.Itoa(k), strconv.Itoa(k)), strconv.Itoa(k)))
	}
	b.produce(records...)
	b.committed()
	b.eventually("all are in their rows", func() bool { return len(b.waitingRows()) == n })
	before := len(b.log(b.remote.Table))
	b.service.wait(t, 15)
	if after := len(b.log(b.remote.Table)); after-before > 40 {
		t.Errorf("%d rows were written while the service was probed some times", after-before)
	}
	mu.Lock()
	is.Store(true)
	for k := 11; k < len(tries); k++ { // those that were in flight when it opened do not count
		if gap := tries[k].Sub(tries[k-1]); gap < 50*time.Millisecond {
			t.Errorf("probe %d came %v after the one before", k, gap)
		}
	}
	mu.Unlock()
	for id, got := range b.results(n) {
		got.check(t, codes.OK, "", "re: "+id)
	}
	if row := i.row(t, "0"); row.State != rowpb.State_STATE_FINAL {
		t.Errorf("the row is %v", row)
	}
}

// Plain events wait as requests do. What fails of them is a dead letter, each with its own.
func TestEventsThatWait(t *testing.T) {
	t.Parallel()
	b := newShop(t, 2, ordersRoute(`idempotency-key: "${message.value.id}"`, `metadata: {amount: "${message.value.amount}"}`), requestsOnly, parking, func(r *topology.Remote) {
		r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = 200*time.Millisecond, 200*time.Millisecond, time.Hour
	})
	i := b.started()
	b.service.down()
	b.produce(event("a", `{"id":"1","amount":"7"}`), event("b", `{"id":"1","amount":"7"}`), event("c", `{"id":"2","amount":"8"}`))
	read := func(n int) map[string]string {
		got := map[string]string{}
		for _, r := range b.read(n) {
			got[string(r.Key)] = fmt.Sprintf("%s %s", r.Topic, r.Value)
		}
		return got
	}
	b.committed()
	b.eventually("both keys wait", func() bool {
		rows := b.waitingRows()
		return len(rows) == 2 && len(rows["1"].Waiting.Requests) == 2
	})
	i.stop()
	b.service.answers(nil)
	i = b.start(i.dir)
	b.ready(i)
	want := map[string]string{"a": `{"id":"1","amount":"7"}`, "b": `{"id":"1","amount":"7"}`, "c": `{"id":"2","amount":"8"}`}
	for key := range want {
		want[key] = replies + " " + want[key]
	}
	if d := cmp.Diff(want, read(3)); d != "" {
		t.Error(d)
	}
	for _, call := range b.service.received() {
		if key := call.metadata.Get("idempotency-key"); call.message == b.order(`{"id":"1","amount":"7"}`) && (len(key) != 1 || key[0] != "1" || !slices.Equal(call.metadata.Get("amount"), []string{"7"})) {
			t.Errorf("the metadata of a call: %v", call.metadata)
		}
	}

	b.service.down()
	b.produce(event("d", `{"id":"3","amount":"9"}`), event("e", `{"id":"3","amount":"9"}`))
	b.committed()
	if err := i.GiveUp(t.Context(), "3", wire.Partition([]byte("3"), 2)); err != nil {
		t.Fatal(err)
	}
	letters := b.remote.Processing.DeadLetter
	if d := cmp.Diff(map[string]string{"d": letters + ` {"id":"3","amount":"9"}`, "e": letters + ` {"id":"3","amount":"9"}`}, withoutReplies(b.read(4))); d != "" {
		t.Error(d)
	}
}

// withoutReplies are the records of other topics than that of replies, by key.
func withoutReplies(records []wire.Record) map[string]string {
	got := map[string]string{}
	for _, r := range records {
		if r.Topic != replies {
			got[string(r.Key)] = fmt.Sprintf("%s %s", r.Topic, r.Value)
		}
	}
	return got
}

// Streams keep their offsets.
func TestStreamsDoNotWaitInTheTable(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking)
	i := b.started()
	var calls atomic.Int32
	b.service.serves(func(stream grpc.ServerStream) error {
		if calls.Add(1) < 5 {
			return errDown
		}
		return echoAll(stream)
	})
	b.produce(whole(bidi("k", "a"), "1")...)
	b.results(1)["a"].check(t, codes.OK, "", "1")
	if row, err := i.Row(bidi("k", "a").CorrelationID); err != nil || row.Attempts != 5 {
		t.Errorf("%v, %v", row, err)
	}
	for _, r := range b.log(b.remote.Table) {
		if row, err := rowpb.Decode(r.Value); err != nil || row.State == rowpb.State_STATE_WAITING {
			t.Errorf("a row: %v, %v", row, err)
		}
	}
}

// Another instance goes on with what waits in the partitions that it gets.
func TestWaitingRowsMoveWithTheirPartitions(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, parking, func(r *topology.Remote) {
		r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = 300*time.Millisecond, 300*time.Millisecond, time.Hour
	})
	first := b.started()
	up := b.service.down()
	const n = 40
	for k := range n {
		b.send(attempt(strconv.Itoa(k), strconv.Itoa(k)), strconv.Itoa(k))
	}
	b.committed()
	second := b.started()
	b.eventually("both have partitions", func() bool {
		one, _ := first.Owned()
		two, _ := second.Owned()
		return len(one) == 2 && len(two) == 2
	})
	b.ready(first)
	b.ready(second)
	b.service.wait(t, 2*n) // both retry
	up()
	got := b.results(n)
	for id, r := range got {
		r.check(t, codes.OK, "", "re: "+id)
	}
	b.eventually("nothing waits", func() bool { return len(b.waitingRows()) == 0 })
	for id, all := range b.answers() {
		if len(all) != 1 {
			t.Errorf("%s was answered %d times", id, len(all))
		}
	}
}

// More requests for one key than a row takes wait in memory, with their offsets.
func TestMoreDuplicatesThanARowTakes(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking, func(r *topology.Remote) {
		r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = time.Hour, time.Hour, 1000*time.Hour
	})
	_, scrape := b.watched()
	i := b.started()
	up := b.service.down()
	const fit, more = 100, 7
	b.produce(message(attempt("k", "0"), "one"))
	b.committed()
	var records []wire.Record
	for n := 1; n < fit+more; n++ {
		records = append(records, message(attempt("k", strconv.Itoa(n)), "one"))
	}
	b.produce(records...)
	b.has(scrape, fmt.Sprintf(`kafka_grpc_requests_parked{group="test-remote"} %d`, more))
	if row := i.row(t, "k"); len(row.Waiting.Requests) != fit {
		t.Errorf("%d requests are in the row", len(row.Waiting.Requests))
	}
	up()
	if err := i.RetryNow(t.Context(), request("k").CorrelationID, 0); err != nil {
		t.Fatal(err)
	}
	for id, got := range b.results(fit + more) {
		if got.Status != codes.OK {
			t.Errorf("%s: %v", id, got)
		}
	}
	b.committed()
	b.has(scrape, `kafka_grpc_requests_parked{group="test-remote"} 0`)
	b.wantExecuted("one", "one")
}

// What becomes of a request that waits is in the trace of its caller, and in the metrics.
func TestWaitingRequestsAreTraced(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, parking, func(r *topology.Remote) { r.Processing.RetryMaxElapsed = time.Hour })
	spans, scrape := b.watched()
	b.started()
	up := b.service.down()
	r := attempt("k", "a")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	r.Trace = wire.Trace{Parent: "00-" + trace + "-b7ad6b7169203331-01"}
	b.produce(message(r, "one"))
	b.committed()
	b.has(scrape, `kafka_grpc_waiting_requests{group="test-remote"} 1`)
	b.service.wait(t, 3)
	up()
	if got := b.results(1)["a"]; !strings.Contains(got.Trace.Parent, trace) {
		t.Errorf("the reply is of trace %q", got.Trace.Parent)
	}
	b.has(scrape, `kafka_grpc_waiting_requests{group="test-remote"} 0`, `kafka_grpc_waiting_oldest_age_seconds{group="test-remote"} 0`,
		`kafka_grpc_waiting_retries_total{method="UnaryEcho",result="answered",service="`+service+`"} 1`)
	waited, linked, results := 0, 0, map[string]int{}
	for _, s := range spans.GetSpans() {
		if s.Name != "process "+requests {
			continue
		}
		if got := s.SpanContext.TraceID().String(); got != trace {
			t.Errorf("a span is of trace %s", got)
		}
		linked += len(s.Links)
		for _, a := range s.Attributes {
			switch a.Key {
			case "kafka_grpc.waited":
				waited++
			case "kafka_grpc.result":
				results[a.Value.AsString()]++
			}
		}
	}
	if n := len(b.service.received()); waited != n-1 || linked != n-1 || results["executed"] != 1 || results["waiting"] != n-1 {
		t.Errorf("of %d attempts %d spans say that they waited, with %d links, and their results are %v", n, waited, linked, results)
	}
}

// A stop does not wait for what waits for its service: its row is there for the next owner.
func TestStopWhileRowsWaitForTheirService(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) {
		r.Processing.RetryParkAfter = time.Millisecond
		r.Processing.BreakerFailures, r.Processing.BreakerOpen = 1, time.Hour
		r.Processing.Drain = 2 * patience
	})
	_, scrape := b.watched()
	i := b.started()
	b.service.failing(1)
	b.produce(message(attempt("0", "0"), "0"))
	b.committed()
	b.has(scrape, `kafka_grpc_calls_in_flight{group="test-remote"} 1`) // it is to probe the service
	i.stop()
	b.ready(b.start(i.dir))
	b.results(1)["0"].check(t, codes.OK, "", "re: 0")
}
