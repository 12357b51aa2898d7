package processor_test

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

var errDown = status.Error(codes.Unavailable, "down for repair")

// failing makes the first n calls fail.
func (s *fakeService) failing(n int32) {
	var calls atomic.Int32
	s.answers(func(_ context.Context, call received) ([]byte, error) {
		if calls.Add(1) <= n {
			call.stream.SetTrailer(metadata.Pairs("t", "of a failed attempt"))
			return nil, errDown
		}
		return []byte("re: " + call.message), nil
	})
}

func (i *instance) row(t *testing.T, key string) *rowpb.Row {
	t.Helper()
	row, err := i.Row(request(key).CorrelationID)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// exhausted reads n results without messages and the one dead letter that belongs to them, in any order.
func (b *testbench) exhausted(n int) (map[string]result, wire.Record) {
	b.t.Helper()
	records := b.read(n + 1)
	at := slices.IndexFunc(records, func(r wire.Record) bool { return r.Topic == b.remote.Processing.DeadLetter })
	if at < 0 {
		b.t.Fatalf("no dead letter: %v", describe(records))
	}
	c := newCollector(b.t)
	out := map[string]result{}
	for k, r := range records {
		if k != at {
			id, done, _ := c.add(r)
			out[id] = done
		}
	}
	return out, records[at]
}

func TestRetryUntilTheServiceAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	b.service.failing(4)
	got := b.call(attempt("k", "a"), "one")
	got.check(t, codes.OK, "", "re: one")
	if len(got.Trailers) != 0 {
		t.Errorf("the reply has the trailers of another attempt: %q", got.Trailers)
	}
	got.same(t, b.call(attempt("k", "b"), "one"))
	if row := i.row(t, "k"); row.GetAttempts() != 5 || row.GetState() != rowpb.State_STATE_FINAL {
		t.Errorf("the row is %v", row)
	}
	if got := b.answers(); len(got) != 2 || len(got["a"]) != 1 {
		t.Errorf("the answers are %v", got)
	}
	if letters := b.log(b.remote.Processing.DeadLetter); len(letters) != 0 {
		t.Errorf("dead letters: %v", describe(letters))
	}
	b.wantExecuted("one", "one", "one", "one", "one")
}

func TestOtherCodesAreNotRetried(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.RetryCodes = []codes.Code{codes.Aborted} })
	i := b.started()
	b.service.failing(1)
	b.call(attempt("k", "a"), "one").check(t, codes.Unavailable, "down for repair")
	if row := i.row(t, "k"); row.GetAttempts() != 1 || row.GetState() != rowpb.State_STATE_FINAL {
		t.Errorf("the row is %v", row)
	}
	b.committed()
	b.wantExecuted("one")
}

func TestExhaustedRetriesAreAnsweredAndKept(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		change   func(*topology.Remote)
		deadline time.Duration // 0: none
		parked   bool          // the call is in flight for long enough
	}{
		// Without the breaker, whose pauses do not count.
		{"at max-elapsed", func(r *topology.Remote) {
			r.Processing.RetryMaxElapsed, r.Processing.BreakerFailures = 100*time.Millisecond, 0
		}, 0, true},
		// The first pause would end after the deadline, so it is not made: no attempt can be cut off by the deadline.
		{"at the deadline", func(r *topology.Remote) {
			const years = 10_000 * time.Hour
			r.Processing.RetryInitial, r.Processing.RetryMax, r.Processing.RetryMaxElapsed = years, years, 100*years
		}, patience, false},
		{"at the deadline, while the breaker is open", func(r *topology.Remote) {
			r.Processing.BreakerFailures, r.Processing.BreakerOpen = 1, time.Hour
		}, 5 * time.Second, true}, // enough for a slow machine to make the first call
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, test.change)
			i := b.started()
			b.service.failing(1_000_000)
			r := attempt("k", "a")
			if test.deadline > 0 {
				r.Deadline = time.Now().Add(test.deadline)
			}
			sent := message(r, "one")
			records := []wire.Record{sent}
			if test.parked { // gets the same result, but only the executed request is kept
				records = append(records, message(attempt("k", "b"), "one"))
			}
			written := b.produce(records...)
			got, letter := b.exhausted(len(records))
			got["a"].check(t, codes.Unavailable, "down for repair")
			if test.parked {
				got["a"].same(t, got["b"])
			}
			row := i.row(t, "k")
			calls := len(b.service.received())
			if int(row.GetAttempts()) != calls || row.GetState() != rowpb.State_STATE_RETRYABLE || codes.Code(row.GetStatus()) != codes.Unavailable {
				t.Errorf("after %d calls the row is %v", calls, row)
			}
			if !bytes.Equal(letter.Key, sent.Key) || string(letter.Value) != "one" {
				t.Errorf("the letter is not the request: %v", describe([]wire.Record{letter}))
			}
			own := len(sent.Headers)
			if len(letter.Headers) <= own || !slices.EqualFunc(sent.Headers, letter.Headers[:own], sameHeader) {
				t.Fatalf("headers: %q", letter.Headers)
			}
			reason := letter.Headers[own]
			if text := string(reason.Value); reason.Name != "kafkagrpc.error.reason" || !strings.HasPrefix(text, "retries exhausted: Unavailable ") ||
				!strings.HasSuffix(text, "down for repair") {
				t.Errorf("the reason is %q", reason)
			}
			want := []wire.Header{
				header("kafkagrpc.error.topic", requests), header("kafkagrpc.error.partition", "0"), header("kafkagrpc.error.offset", "0"),
				header("kafkagrpc.error.timestamp", strconv.FormatInt(written[0].Timestamp.UnixMilli(), 10)),
				header("kafkagrpc.error.class", "retries_exhausted"), header("kafkagrpc.error.code", "14"), header("kafkagrpc.error.attempts", strconv.Itoa(calls)),
			}
			if d := cmp.Diff(want, letter.Headers[own+1:]); d != "" {
				t.Error(d)
			}
			b.committed()
			if got := len(b.log(b.remote.Processing.DeadLetter)); got != 1 {
				t.Errorf("%d dead letters", got)
			}
		})
	}
}

// partial reports whether a letter says that it is not the whole of its request.
func partial(letter wire.Record) bool {
	return slices.ContainsFunc(letter.Headers, func(h wire.Header) bool { return sameHeader(h, header("kafkagrpc.error.partial", "1")) })
}

// Only the first message of a stream is kept, which says whether there were others.
func TestExhaustedRetriesOfAStream(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.RetryMaxElapsed = 0 })
	b.started()
	b.service.serves(func(stream grpc.ServerStream) error {
		var message []byte
		for stream.RecvMsg(&message) == nil {
		}
		return status.Error(codes.Unavailable, "down for repair")
	})
	for call, messages := range map[string][]string{"one": {"1"}, "two": {"1", "2"}} {
		b.produce(whole(mystery(call, call), messages...)...)
		got, letter := b.exhausted(1)
		got[call].check(t, codes.Unavailable, "down for repair")
		if string(letter.Value) != "1" || partial(letter) != (len(messages) > 1) {
			t.Errorf("the letter of %d messages: %v", len(messages), describe([]wire.Record{letter}))
		}
	}
	b.committed()
}

func TestLongStatusFitsTheDeadLetter(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.RetryMaxElapsed = 0 })
	b.started()
	b.service.answers(func(context.Context, received) ([]byte, error) {
		return nil, status.Error(codes.Unavailable, strings.Repeat("ü", 5000))
	})
	b.send(attempt("k", "a"), "one")
	b.committed()
	if letters := b.log(b.remote.Processing.DeadLetter); len(letters) != 1 || string(letters[0].Value) != "one" {
		t.Errorf("dead letters: %v", describe(letters))
	}
}

// A call that was never made leaves no row, so that its key may be asked again.
func TestHeldUntilTheDeadlineIsNotExecuted(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) {
		r.Processing.RetryMaxElapsed = 0
		r.Processing.BreakerFailures, r.Processing.BreakerOpen = 1, time.Hour
	})
	i := b.started()
	b.service.failing(1)
	b.send(attempt("opens", "z"), "opens")
	b.exhausted(1)
	r := attempt("k", "a")
	r.Deadline = soon()
	parked := attempt("k", "b")
	parked.Deadline = r.Deadline
	b.produce(message(r, "one"), message(parked, "one"))
	got := b.results(2)
	got["a"].check(t, codes.DeadlineExceeded, "the breaker of "+b.service.addr+" was open")
	got["b"].check(t, codes.DeadlineExceeded, "the deadline passed while another request")
	if row := i.row(t, "k"); row != nil {
		t.Errorf("the row is %v, want none", row)
	}
	b.committed()
	b.wantExecuted("opens")
	if got := len(b.log(b.remote.Processing.DeadLetter)); got != 1 {
		t.Errorf("%d dead letters, want that of the call that opened the breaker", got)
	}
}

func TestOutagePausesConsumption(t *testing.T) {
	t.Parallel()
	const bound, n = 5, 100
	const open = 100 * time.Millisecond
	b := newBench(t, 1, func(r *topology.Remote) {
		r.Processing.MaxInFlight = bound
		r.Processing.BreakerFailures, r.Processing.BreakerOpen = 1, open
	})
	i := b.started()
	var mu sync.Mutex
	down := true
	var failed []time.Time
	var tried, done []string
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			failed = append(failed, time.Now())
			tried = append(tried, call.message)
			return nil, errDown
		}
		done = append(done, call.message)
		return []byte(call.message), nil
	})
	var records []wire.Record
	var all []string
	for k := range n {
		text := strconv.Itoa(k)
		all = append(all, text)
		records = append(records, message(attempt(text, text), text))
	}
	b.produce(records...)
	// Those in flight come once each at most before the breaker is open, then there are only probes.
	b.service.wait(t, bound+6)
	mu.Lock()
	down = false
	slices.Sort(tried)
	if got := slices.Compact(tried); len(got) > bound || slices.Max(got) > strconv.Itoa(bound-1) {
		t.Errorf("the requests %q were read while the service was down, want the first %d at most", got, bound)
	}
	for k := bound + 1; k < len(failed); k++ {
		if gap := failed[k].Sub(failed[k-1]); gap < open {
			t.Errorf("probe %d came %v after the one before, want %v at least", k-bound, gap, open)
		}
	}
	mu.Unlock()
	got := b.results(n)
	for _, text := range all {
		got[text].check(t, codes.OK, "", text)
	}
	b.committed()
	slices.Sort(done)
	slices.Sort(all)
	if d := cmp.Diff(all, done); d != "" {
		t.Errorf("executed with success, want each once: %s", d)
	}
	if got := len(b.answers()); got != n {
		t.Errorf("%d attempts were answered, want %d", got, n)
	}
	if row := i.row(t, "0"); row.GetState() != rowpb.State_STATE_FINAL || row.GetAttempts() < 2 {
		t.Errorf("the row of the first request is %v", row)
	}
	if letters := b.log(b.remote.Processing.DeadLetter); len(letters) != 0 {
		t.Errorf("dead letters: %v", describe(letters))
	}
}

// Calls that wait for a service are cut when the drain time is over, and are made after the restart.
func TestStopDuringAnOutage(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) {
		r.Processing.Drain = 200 * time.Millisecond
		r.Processing.BreakerFailures, r.Processing.BreakerOpen = 1, time.Hour
	})
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	b.service.failing(1_000_000)
	b.produce(message(attempt("0", "0"), "0"))
	b.service.wait(t, 1)
	b.eventually("the breaker opens", func() bool { return log.Count("its calls wait") > 0 })
	b.produce(message(attempt("1", "1"), "1"), message(attempt("2", "2"), "2"))
	i.stop()
	b.service.failing(0)
	b.ready(b.start(i.dir))
	got := b.results(3)
	for _, id := range []string{"0", "1", "2"} {
		got[id].check(t, codes.OK, "", "re: "+id)
	}
	b.committed()
	b.wantExecuted("0", "0", "1", "2")
}
