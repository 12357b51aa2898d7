package processor_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func TestManyKeysAndManyAttemptsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.started()
	const keys, attempts = 1000, 100
	var records []wire.Record
	for i := range keys {
		key := strconv.Itoa(i)
		r := attempt(key, "call "+key)
		records = append(records, message(r, key), end(r))
	}
	for i := range attempts {
		r := attempt("many", "attempt "+strconv.Itoa(i))
		records = append(records, message(r, "many"), end(r))
	}
	b.produce(records...)
	got := b.results(keys + attempts)
	var want []string
	for i := range keys {
		key := strconv.Itoa(i)
		want = append(want, key)
		got["call "+key].check(t, codes.OK, "", key)
	}
	for i := range attempts {
		got["attempt "+strconv.Itoa(i)].check(t, codes.OK, "", "many")
	}
	b.committed()
	b.wantExecuted(append(want, "many")...)
}

func TestCallsStayApart(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.started()
	const n = 200
	gate := make(chan struct{})
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		<-gate // until all are in flight
		call.stream.SetTrailer(metadata.Pairs("t-"+call.message, call.message))
		return []byte("re: " + call.message), call.stream.SetHeader(metadata.Pairs("h-"+call.message, call.message))
	})
	var records []wire.Record
	for i := range n {
		r := attempt(fmt.Sprint("key ", i), fmt.Sprint("call ", i))
		r.Metadata = append(r.Metadata, wire.Field{Name: fmt.Sprint("m-", i), Value: strconv.Itoa(i)})
		records = append(records, message(r, strconv.Itoa(i)), end(r))
	}
	b.produce(records...)
	b.service.wait(t, n)
	close(gate)
	got := b.results(n)
	for i := range n {
		text := strconv.Itoa(i)
		r := got["call "+text]
		r.check(t, codes.OK, "", "re: "+text)
		if len(r.Metadata) != 1 || r.Metadata[0] != (wire.Field{Name: "h-" + text, Value: text}) ||
			len(r.Trailers) != 1 || r.Trailers[0] != (wire.Field{Name: "t-" + text, Value: text}) {
			t.Errorf("call %d got the metadata %q and the trailers %q", i, r.Metadata, r.Trailers)
		}
	}
	for _, call := range b.service.received() {
		for _, transport := range []string{":authority", "content-type", "user-agent", "grpc-accept-encoding"} {
			delete(call.metadata, transport)
		}
		if len(call.metadata) != 2 || call.metadata.Get("idempotency-key")[0] != "key "+call.message ||
			call.metadata.Get("m-" + call.message)[0] != call.message {
			t.Errorf("the call %q has the metadata %q", call.message, call.metadata)
		}
	}
}

func TestCallsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	const bound, n, free = 5, 50, 10
	b := newBench(t, 2, func(r *topology.Remote) { r.Processing.MaxInFlight = bound })
	b.started()
	var mu sync.Mutex
	var inside, most int
	one := make(chan struct{})
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		if call.message == "free" {
			return []byte(call.message), nil
		}
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
	keys := [2][]string{}
	for i := 0; len(keys[0]) < n || len(keys[1]) < free; i++ {
		key := strconv.Itoa(i)
		partition := wire.Partition([]byte(request(key).CorrelationID), 2)
		keys[partition] = append(keys[partition], key)
	}
	var records []wire.Record
	for _, key := range keys[0][:n] {
		records = append(records, message(attempt(key, key), key), end(attempt(key, key)))
	}
	b.produce(records...)
	b.service.wait(t, bound)
	// The other partition goes on meanwhile, which is also the time for calls beyond the bound to arrive.
	for _, key := range keys[1][:free] {
		b.call(attempt(key, key), "free").check(t, codes.OK, "", "free")
	}
	b.service.wait(t, free)
	for range n - bound {
		one <- struct{}{}
		b.service.wait(t, 1)
	}
	for range bound {
		one <- struct{}{}
	}
	got := b.results(n)
	for _, key := range keys[0][:n] {
		got[key].check(t, codes.OK, "", key)
	}
	if most != bound {
		t.Errorf("up to %d calls were in flight, want %d", most, bound)
	}
	b.committed()
}
