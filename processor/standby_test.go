package processor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"kafkagrpc/topology"
)

func TestStandbyCopyTakesOver(t *testing.T) {
	t.Parallel()
	const partitions, n = 4, 40
	for _, standby := range []bool{true, false} {
		t.Run(fmt.Sprint(standby), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, partitions, func(r *topology.Remote) { r.Processing.Standby = standby })
			first := b.started()
			b.sendMany("before", n)
			b.committed()
			second := b.start(t.TempDir())
			b.ready(second)
			b.sendMany("between", n) // rows are written while the copies follow
			b.committed()
			if s := second.State(); !s.Ready || s.Partitions != partitions/2 {
				t.Errorf("the second instance: %+v", s)
			}
			copies := 0
			for partition := range partitions {
				_, err := os.Stat(filepath.Join(second.dir, "test-remote", fmt.Sprintf("%s.%d", b.remote.Table, partition)))
				if err == nil {
					copies++
				}
			}
			if want := map[bool]int{true: partitions, false: partitions / 2}[standby]; copies != want {
				t.Errorf("the second instance has %d partitions, want %d", copies, want)
			}
			// A copy answers nothing: the partition has one owner.
			b.eachRowHasOneOwner(first, second)
			first.stop()
			b.evict(first.dir)
			b.sendMany("after", n)
			b.committed()
			if got := len(b.service.received()); got != n {
				t.Errorf("the service was called %d times, want %d", got, n)
			}
			for key := range n {
				if row, err := second.Row(request(strconv.Itoa(key)).CorrelationID); err != nil || row == nil {
					t.Errorf("the row of key %d: %v, %v", key, row, err)
				}
			}
		})
	}
}
