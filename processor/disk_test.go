package processor_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/internal/disktest"
	"kafkagrpc/topology"
)

// A disk that fills takes no result with it: what was executed is answered and in the changelog, and nothing is executed again.
// The state says what is the matter, and when there is space the processor goes on by itself.
func TestDiskThatFills(t *testing.T) {
	t.Parallel()
	for _, standby := range []bool{false, true} {
		t.Run(fmt.Sprint("standby ", standby), func(t *testing.T) {
			t.Parallel()
			disk := disktest.New(t, "24")
			b := newBench(t, 2, func(r *topology.Remote) { r.Processing.Standby = standby })
			b.service.answers(func(_ context.Context, call received) ([]byte, error) {
				return []byte(call.message), call.stream.SetHeader(metadata.Pairs("x", incompressible(5000)))
			})
			i := b.start(disk.Dir)
			b.ready(i)
			b.sendMany("before", 10)

			open := b.service.gate()
			var keys []string
			large := incompressible(5000) // more than what is left of a page
			for n := range 10 {
				key := fmt.Sprint("in flight ", n)
				keys = append(keys, key)
				b.send(attempt(key, key), key+large)
			}
			b.service.wait(t, 20)
			disk.Fill()
			open()
			for key, got := range b.results(10) {
				got.check(t, codes.OK, "", key+large)
			}
			b.eventually("the state names the disk", func() bool {
				s := i.State()
				return !s.Ready && strings.Contains(s.Reason, disk.Dir) && strings.Contains(s.Reason, "no space left on device") && strings.Contains(s.Reason, "make space there")
			})
			b.send(attempt("while it is full", "waits"), "while it is full")

			disk.Free()
			b.ready(i)
			b.results(1)["waits"].check(t, codes.OK, "", "while it is full")
			for _, key := range keys {
				b.call(attempt(key, key+" again"), key+large).check(t, codes.OK, "", key+large)
			}
			b.committed()
			if got := len(b.service.received()); got != 21 {
				t.Errorf("the service was called %d times, want 21", got)
			}
		})
	}
}

// It does not start what it cannot hold: the processor waits for the disk, and says so.
func TestStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := disktest.New(t, "24")
	b := newBench(t, 1)
	i := b.start(disk.Dir)
	b.ready(i)
	b.sendMany("before", 3)
	b.committed()
	i.stop()
	disk.Fill()
	i = b.start(disk.Dir)
	b.eventually("the state names the disk", func() bool {
		s := i.State()
		return !s.Ready && strings.Contains(s.Reason, "no space left on device")
	})
	disk.Free()
	b.ready(i)
	b.sendMany("after", 3)
	b.committed()
	if got := len(b.service.received()); got != 3 {
		t.Errorf("the service was called %d times, want 3", got)
	}
}

// An instance whose disk is full stays out of the group, so that another one does its work, and comes back when there is space.
func TestOthersWorkWhileADiskIsFull(t *testing.T) {
	t.Parallel()
	disk := disktest.New(t, "24")
	b := newBench(t, 2)
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		return []byte(call.message), call.stream.SetHeader(metadata.Pairs("x", incompressible(5000)))
	})
	full, other := b.start(disk.Dir), b.start(t.TempDir())
	b.eventually("each has a partition", func() bool {
		return full.State().Ready && other.State().Ready && full.State().Partitions == 1 && other.State().Partitions == 1
	})
	disk.Fill()
	for n := 0; full.State().Ready; n++ {
		b.call(attempt(fmt.Sprint("until it is full ", n), fmt.Sprint(n)), "hi").check(t, codes.OK, "", "hi")
	}
	b.sendMany("meanwhile", 10)
	if full.State().Ready {
		t.Error("the full disk has space")
	}
	b.eventually("the other one has all partitions", func() bool { return other.State().Ready && other.State().Partitions == 2 })
	disk.Free()
	b.eventually("each has a partition again", func() bool {
		return full.State().Ready && other.State().Ready && full.State().Partitions == 1 && other.State().Partitions == 1
	})
	b.sendMany("after", 10)
}
