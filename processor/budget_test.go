package processor_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/topology"
)

// Calls of several partitions are bounded together, and no partition is left out.
func TestCallsOfTheProcessAreBounded(t *testing.T) {
	t.Parallel()
	const partitions, bound, n = 4, 6, 60
	b := newBench(t, partitions, func(r *topology.Remote) { r.Processing.MaxInFlightTotal = bound })
	var mu sync.Mutex
	var inside, most int
	one := make(chan struct{})
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		mu.Lock()
		inside++
		most = max(most, inside)
		mu.Unlock()
		<-one
		mu.Lock()
		inside--
		mu.Unlock()
		return []byte(call.message), nil
	})
	b.started()
	for i := range n {
		b.send(attempt(strconv.Itoa(i), strconv.Itoa(i)), strconv.Itoa(i))
	}
	b.service.wait(t, bound)
	for range n {
		one <- struct{}{}
	}
	got := b.results(n)
	for i := range n {
		got[strconv.Itoa(i)].check(t, codes.OK, "", strconv.Itoa(i))
	}
	// Each partition may have one record in flight above the bound.
	if most < bound || most > bound+partitions {
		t.Errorf("up to %d calls were in flight, want %d to %d", most, bound, bound+partitions)
	}
	b.committed()
}

// Results count against the bounds as long as Kafka does not take them, new ones and those of the table.
func TestResultsOnTheirWayCountInBytes(t *testing.T) {
	t.Parallel()
	const size = 500_000
	b := newBench(t, 1)
	b.budget = consumergroup.NewBudget(0, 0)
	b.service.answers(func(context.Context, received) ([]byte, error) { return make([]byte, size), nil })
	b.started()
	for _, name := range []string{"first", "repeated"} {
		full := b.kafka.Cluster().Fault(kfake.Fault{
			Keys: []kmsg.Key{kmsg.Produce}, Topic: b.remote.Table, Err: kerr.NotEnoughReplicas, Count: -1,
		})
		b.send(attempt("same", name), "k")
		b.eventually("the result counts", func() bool {
			_, bytes := b.budget.Used()
			return bytes > size
		})
		full.Remove()
		b.results(1)
		b.eventually("it counts no more", func() bool {
			records, bytes := b.budget.Used()
			return records == 0 && bytes == 0
		})
	}
	b.wantExecuted("k")
}
