package processor_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// latest is the value of each key on the table topic; nil for one that was removed.
func (b *testbench) latest() map[string][]byte {
	b.t.Helper()
	values := map[string][]byte{}
	for _, r := range b.log(b.remote.Table) {
		values[string(r.Key)] = r.Value
	}
	return values
}

func TestExpiredRowsAreRemoved(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	first := b.started()
	const live = 10
	b.sendMany("live", live)
	b.committed()
	first.stop()

	// Their expiry is in the rows that there are: only those of this life expire.
	b.remote.Expiry, b.sweep = time.Nanosecond, 50*time.Millisecond
	second := b.start(first.dir)
	b.ready(second)
	const dead = 350 // several steps in each partition
	var records []wire.Record
	for i := range dead {
		r := attempt(fmt.Sprint("dead ", i), fmt.Sprint("call ", i))
		records = append(records, message(r, "one"), end(r))
	}
	b.produce(records...)
	b.results(dead)
	b.eventually("the expired rows are removed from the table", func() bool {
		removed := 0
		for _, value := range b.latest() {
			if value == nil {
				removed++
			}
		}
		return removed == dead
	})
	for i := range live {
		if row, err := second.Row(request(strconv.Itoa(i)).CorrelationID); err != nil || row == nil {
			t.Errorf("the row of live key %d: %v, %v", i, row, err)
		}
	}
	for i := range dead {
		if row, err := second.Row(request(fmt.Sprint("dead ", i)).CorrelationID); err != nil || row != nil {
			t.Errorf("the row of expired key %d: %v, %v", i, row, err)
		}
	}
	b.sendMany("again", live)
	b.committed()
	if got := len(b.service.received()); got != live+dead {
		t.Errorf("the service was called %d times, want %d", got, live+dead)
	}
	second.stop()

	// A copy that is made from the changelog alone has the same rows.
	b.evict(second.dir)
	b.remote.Expiry, b.sweep = time.Hour, 0
	third := b.start(t.TempDir())
	b.ready(third)
	for i := range dead {
		if row, err := third.Row(request(fmt.Sprint("dead ", i)).CorrelationID); err != nil || row != nil {
			t.Errorf("after recovery, the row of expired key %d: %v, %v", i, row, err)
		}
	}
	b.sendMany("recovered", live)
	if got := len(b.service.received()); got != live+dead {
		t.Errorf("the service was called %d times, want %d", got, live+dead)
	}
}

// A sweep that never rests must not be seen by anyone: keys come and go, and each attempt is answered.
func TestSweepUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	b.remote.Expiry, b.sweep = 5*time.Millisecond, time.Nanosecond
	i := b.started()
	const rounds, keys = 20, 50
	for round := range rounds {
		var records []wire.Record
		for key := range keys {
			r := attempt(strconv.Itoa(key), fmt.Sprintf("%d-%d", round, key))
			records = append(records, nth(r, 0, strconv.Itoa(key)), ends(r, 1)) // numbered: an end that comes when the row is gone asks for nothing
		}
		b.produce(records...)
		got := b.results(keys)
		for key := range keys {
			got[fmt.Sprintf("%d-%d", round, key)].check(t, codes.OK, "", strconv.Itoa(key))
		}
	}
	b.committed()
	b.eventually("all rows are removed", func() bool {
		for _, value := range b.latest() {
			if value != nil {
				return false
			}
		}
		return true
	})
	i.stop() // while it sweeps
	if got := len(b.answers()); got != rounds*keys {
		t.Errorf("%d attempts were answered, want %d", got, rounds*keys)
	}
}
