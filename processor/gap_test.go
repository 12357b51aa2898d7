package processor_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/logtest"
)

// deleted removes the records of the only request partition below an offset, as retention does.
func (b *testbench) deleted(offset int64) {
	b.t.Helper()
	if err := b.kafka.Cluster().DeleteRecords(requests, 0, offset); err != nil {
		b.t.Fatal(err)
	}
}

// sendAll sends n requests that nobody waits for: two records each.
func (b *testbench) sendAll(name string, n int) {
	b.t.Helper()
	for k := range n {
		b.send(attempt(fmt.Sprintf("%s-%d", name, k), fmt.Sprintf("%s-%d", name, k)), name)
	}
}

func gone(n int) string {
	return fmt.Sprintf(`kafka_grpc_requests_gone_total{group="test-remote",topic="echo-requests"} %d`, n)
}

const toldGone = "requests were deleted before they were read"

// A new group on a partition that retention has emptied has nothing to read, and has missed nothing.
func TestNoLagWhereNothingIsLeft(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	log := new(logtest.Lines)
	b.heard = log
	_, scrape := b.watched()
	b.sendAll("before", 10)
	b.deleted(20)
	i := b.started()
	b.lag(scrape, 0)
	b.committed() // Kafka's tool says the same
	b.call(attempt("k", "1"), "hi").check(t, codes.OK, "", "hi")
	b.lag(scrape, 0)
	i.stop()
	if n := log.Count(toldGone); n != 0 {
		t.Errorf("%d lines of requests that are gone", n)
	}
}

// What retention deleted while the group was away is told, once, and counted, whether something is left or not.
func TestRequestsThatAreGoneAreCounted(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]int{"all": 0, "some": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			log := new(logtest.Lines)
			b.heard = log
			_, scrape := b.watched()
			i := b.started()
			b.sendAll("first", 5)
			b.results(5)
			b.committed()
			i.stop()
			b.sendAll("gone", 7)
			b.sendAll("left", left)
			b.deleted(10 + 14)
			for range 2 {
				i = b.start(i.dir)
				b.ready(i)
				b.has(scrape, gone(14))
				b.committed()
				b.lag(scrape, 0)
				i.stop()
			}
			if n := log.Count(toldGone); n != 1 {
				t.Errorf("%d lines of requests that are gone", n)
			}
			if n := log.Count(`"records":14`); n != 1 {
				t.Error("the line does not say how many")
			}
			if n := len(b.service.received()); n != 5+left {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// The same for a group that was never given anything in the partition, but was there.
func TestRequestsThatAreGoneAfterAnIdleStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	_, scrape := b.watched()
	i := b.started()
	b.eventually("the group has committed where it is", func() bool {
		offsets, err := b.admin.FetchOffsets(context.Background(), b.remote.Group)
		if err != nil {
			t.Fatal(err)
		}
		at, ok := offsets.Lookup(requests, 0)
		return ok && at.At == 0
	})
	i.stop()
	b.sendAll("gone", 4)
	b.deleted(8)
	i = b.start(i.dir)
	b.ready(i)
	b.has(scrape, gone(8))
	b.lag(scrape, 0)
	i.stop()
}

// Requests that are deleted in front of a group that is too slow.
func TestRequestsThatAreGoneWhileItRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	_, scrape := b.watched()
	i := b.started()
	b.call(attempt("k", "1"), "hi").check(t, codes.OK, "", "hi")
	b.committed()
	open := b.holdFetches(requests)
	b.sendAll("gone", 4)
	b.deleted(8)
	b.sendAll("left", 1)
	open()
	b.has(scrape, gone(6))
	b.results(1 + 0)
	b.committed()
	b.lag(scrape, 0)
	i.stop()
}

// An offset above the end is of another topic. It must not hide the requests of this one until it has as many.
func TestOffsetAboveTheEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	log := new(logtest.Lines)
	b.heard = log
	_, scrape := b.watched()
	b.sendAll("first", 3)
	offsets := make(kadm.Offsets)
	offsets.AddOffset(requests, 0, 1000, -1)
	if err := b.admin.CommitAllOffsets(t.Context(), b.remote.Group, offsets); err != nil {
		t.Fatal(err)
	}
	i := b.started()
	b.results(3)
	b.committed()
	b.lag(scrape, 0)
	i.stop()
	if n := log.Count("is above the end of the partition"); n != 1 {
		t.Errorf("the log has %d lines of it", n)
	}
	i = b.start(i.dir)
	b.ready(i)
	b.call(attempt("k", "1"), "hi").check(t, codes.OK, "", "hi")
	i.stop()
	if n := len(b.service.received()); n != 4 {
		t.Errorf("%d calls", n)
	}
}
