package processor_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/statedir"
)

// An instance that does not come back is no member any more when it has stopped, and leaves nothing undone.
func TestInstanceLeavesForGood(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	members := func() (n int) {
		groups, err := b.admin.DescribeGroups(context.Background(), b.remote.Group)
		if err != nil {
			t.Fatal(err)
		}
		return len(groups[b.remote.Group].Members)
	}
	staying, leaving := b.started(), b.started()
	b.eventually("both have partitions", func() bool {
		return staying.State().Ready && leaving.State().Ready && staying.State().Partitions == 2 && leaving.State().Partitions == 2
	})
	if err := statedir.Leave(leaving.dir); err != nil {
		t.Fatal(err)
	}
	if n := members(); n != 2 {
		t.Errorf("the group has %d members before the stop", n)
	}
	for _, key := range []string{"1", "2", "3", "4", "5", "6"} {
		b.call(attempt(key, "call "+key), key).check(t, codes.OK, "", key)
	}
	leaving.stop()
	if n := members(); n != 1 {
		t.Errorf("the group has %d members after the stop", n)
	}
	b.eventually("the other one has all partitions", func() bool { return staying.State().Ready && staying.State().Partitions == 4 })
	for _, key := range []string{"1", "2", "3", "4", "5", "6"} {
		b.call(attempt(key, "again "+key), key).check(t, codes.OK, "", key)
	}
	b.wantExecuted("1", "2", "3", "4", "5", "6")

	// It is a member as before when it has come back after all, and the next stop is a restart.
	back := b.start(leaving.dir)
	b.ready(back)
	back.stop()
	if n := members(); n != 2 {
		t.Errorf("the group has %d members after the stop for a restart", n)
	}
}
