package processor_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

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
