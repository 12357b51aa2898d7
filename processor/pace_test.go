package processor_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/processor"
	"kafkagrpc/topology"
)

// paced gives the routes a grpc client that has some calls at once.
func paced(maxInFlight int) func(*topology.Remote) {
	return func(r *topology.Remote) {
		for i := range r.Routes {
			r.Routes[i].GRPC, r.Routes[i].Target.MaxInFlight = "client", maxInFlight
		}
	}
}

// waitingCalls is what a scrape says of calls of a group that wait for their turn.
func waitingCalls(group string, n int) string {
	return fmt.Sprintf(`kafka_grpc_calls_waiting{binding="client",group=%q} %d`, group, n)
}

// The partitions of two bindings that lead to one grpc client call its service at one pace.
func TestPartitionsAndBindingsShareAPace(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, paced(3))
	b.forged = true // both bindings answer
	spans, scrape := b.watched()
	first, second := b.remote, b.remote
	second.Binding, second.Group, second.Table, second.Loop = "second", "test-second", "test-second-table", "test-second-loop"
	second.Processing.DeadLetter = "test-second-dead-letters"
	b.paces = processor.NewPaces(first, second)
	b.started()
	b.remote = second
	b.started()
	var now, top atomic.Int32
	tokens := make(chan struct{})
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for most := top.Load(); n > most && !top.CompareAndSwap(most, n); most = top.Load() {
		}
		<-tokens
		return []byte(call.message), nil
	})
	const calls = 20
	for i := range calls {
		b.send(attempt(fmt.Sprint(i), fmt.Sprint(i)), "v")
	}
	b.service.wait(t, 3)
	b.eventually("all but three wait", func() bool {
		text, sum := scrape(), 0
		for _, group := range []string{first.Group, second.Group} {
			for n := range calls + 1 {
				if strings.Contains(text, waitingCalls(group, n)+"\n") {
					sum += n
				}
			}
		}
		return sum == 2*calls-3
	})
	close(tokens)
	b.eventually("all calls", func() bool { return len(b.service.received()) == 2*calls })
	b.has(scrape, waitingCalls(first.Group, 0), waitingCalls(second.Group, 0),
		fmt.Sprintf(`kafka_grpc_stage_duration_seconds_count{method="UnaryEcho",service="grpc.examples.echo.Echo",stage="pace"} %d`, 2*calls))
	if got := top.Load(); got != 3 {
		t.Errorf("%d calls at once", got)
	}
	waited := 0
	b.eventually("the spans", func() bool {
		waited = 0
		for _, span := range spans.GetSpans() {
			for _, event := range span.Events {
				if event.Name == "waited for a turn" && strings.HasPrefix(span.Name, "process ") {
					waited++
				}
			}
		}
		return waited >= 2*calls-3
	})
	if waited != 2*calls-3 {
		t.Errorf("%d spans tell of a wait", waited)
	}
}

// What waits at a stop is called by whoever comes next, and a stop takes no longer for it.
func TestStopWhileManyWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, paced(1), func(r *topology.Remote) { r.Processing.Drain = 100 * time.Millisecond })
	_, scrape := b.watched()
	i := b.started()
	open := b.service.gate()
	const calls = 50
	want := map[string]bool{}
	for n := range calls {
		id := fmt.Sprint(n)
		want[id] = true
		b.send(attempt(id, id), id)
	}
	b.service.wait(t, 1)
	b.has(scrape, waitingCalls(b.remote.Group, calls-1))
	i.stop()
	made := len(b.service.received())
	if made > 2 { // the turn of the first, when its partition gives it up, may be that of one of the other partition, until that gives it up, too
		t.Errorf("%d calls were made", made)
	}
	open()
	b.ready(b.start(i.dir))
	got := b.results(calls)
	for id := range want {
		got[id].check(t, codes.OK, "", id)
	}
	times := map[string]int{}
	for _, call := range b.service.received() {
		times[call.message]++
	}
	often := slices.Sorted(maps.Values(times))
	if len(often) != calls || often[calls-1] != 2 || often[calls-made] != 2 || often[calls-made-1] != 1 {
		t.Errorf("calls were made so often: %v", times)
	}
	b.committed()
}

func TestDeadlineAndCancelWhileWaitingForATurn(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, paced(1))
	_, scrape := b.watched()
	i := b.started()
	open := b.service.gate()
	b.send(attempt("first", "first"), "first")
	b.service.wait(t, 1)
	late := attempt("k", "late")
	late.Deadline = soon()
	b.call(late, "one").check(t, codes.DeadlineExceeded, "no turn came before the deadline at the pace of `client`")
	if row, err := i.Row(late.CorrelationID); row != nil || err != nil {
		t.Errorf("the row is %v, %v, want none", row, err)
	}
	gone := attempt("gone", "gone")
	b.send(gone, "two")
	b.has(scrape, waitingCalls(b.remote.Group, 1))
	b.produce(canceled(gone))
	b.results(1)["gone"].check(t, codes.Canceled, "")
	b.has(scrape, waitingCalls(b.remote.Group, 0))
	b.wantExecuted("first")
	open()
	b.results(1)["first"].check(t, codes.OK, "", "first")
	b.call(attempt("k", "again"), "one").check(t, codes.OK, "", "one") // the key is free
	b.wantExecuted("first", "one")
	b.committed()
}

// Nobody can say anything on a stream that waits for its turn: it is not idle.
func TestStreamThatWaitsForItsTurnIsNotIdle(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) {
		r.Processing.StreamIdle = 3 * time.Second // of which a busy machine takes one
		free := r.Routes[0]
		paced(1)(r)
		r.Routes[0].Methods = []topology.MethodPattern{service + "/UnaryEcho"}
		free.Methods = []topology.MethodPattern{service + "/BidirectionalStreamingEcho"}
		server := r.Routes[0]
		server.Methods = []topology.MethodPattern{service + "/ServerStreamingEcho"}
		r.Routes = append(r.Routes, server, free)
	})
	_, scrape := b.watched()
	b.started()
	open := b.service.gate()
	b.send(attempt("first", "first"), "first")
	b.service.wait(t, 1)
	b.produce(whole(streaming("Server", "waits", "waits"), "go")...)
	b.has(scrape, waitingCalls(b.remote.Group, 1))
	for _, name := range []string{"one", "another"} { // each begins to be silent when the other waits already
		b.produce(message(bidi(name, name), "x"))
		b.results(1)[name].check(t, codes.DeadlineExceeded, "processing.stream-idle")
	}
	b.has(scrape, waitingCalls(b.remote.Group, 1))
	open()
	got := b.results(2)
	got["first"].check(t, codes.OK, "", "first")
	got["waits"].check(t, codes.OK, "", "go")
	b.committed()
}
