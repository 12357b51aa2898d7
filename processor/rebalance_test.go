package processor_test

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/processor"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

func TestInstancesJoinAndLeaveUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	first := b.started()
	const n = 100
	sent := 0
	send := func() {
		for range 10 {
			var records []wire.Record
			for range n / 10 {
				key := strconv.Itoa(sent)
				r := attempt(key, "call "+key)
				records = append(records, message(r, key), end(r))
				sent++
			}
			b.produce(records...)
		}
	}
	send()
	defer b.readRows(first)()
	second := b.start(t.TempDir())
	send()
	b.ready(second)
	got := b.results(2 * n)
	b.eachRowHasOneOwner(first, second)
	first.begin()
	send()
	first.stop()
	b.evict(first.dir) // or the group would wait for it to come back
	maps.Copy(got, b.results(n))
	var want []string
	for i := range 3 * n {
		key := strconv.Itoa(i)
		got["call "+key].check(t, codes.OK, "", key)
		want = append(want, key)
	}
	for id, answers := range b.answers() {
		if len(answers) != 1 {
			t.Errorf("%s was answered %d times", id, len(answers))
		}
	}
	b.wantExecuted(want...)
	// The second one answers for the keys of the first, too.
	for i := range 3 {
		key := strconv.Itoa(i)
		b.call(attempt(key, "again "+key), key).check(t, codes.OK, "", key)
	}
	b.wantExecuted(want...)
}

// readRows reads the table of an instance over and over until the answered function is called.
func (b *testbench) readRows(i *instance) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for key := 0; ; key++ {
			if _, err := i.Row(request(strconv.Itoa(key)).CorrelationID); err != nil && !errors.Is(err, processor.ErrNotReady) {
				b.t.Errorf("reading a row while partitions move: %v", err)
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

// eachRowHasOneOwner fails unless each of the first keys is known to one instance, and each instance knows some.
func (b *testbench) eachRowHasOneOwner(instances ...*instance) {
	b.t.Helper()
	known := make([]int, len(instances))
	for key := range 20 {
		owners := 0
		for i, instance := range instances {
			var row *rowpb.Row
			b.eventually("the table is recovered", func() bool {
				var err error
				if row, err = instance.Row(request(strconv.Itoa(key)).CorrelationID); err != nil && !errors.Is(err, processor.ErrNotReady) {
					b.t.Fatal(err)
				}
				return err == nil
			})
			if row != nil {
				known[i]++
				owners++
			}
		}
		if owners != 1 {
			b.t.Errorf("the row of key %d is known to %d instances", key, owners)
		}
	}
	if slices.Contains(known, 0) {
		b.t.Errorf("rows known to each instance: %v", known)
	}
}
