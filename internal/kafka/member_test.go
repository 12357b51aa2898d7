package kafka_test

import (
	"context"
	"errors"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
)

func TestMember(t *testing.T) {
	t.Parallel()
	const group, instance = "g", "i"
	k, c := start(t, map[string]int32{"t": 1})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	id, generation := joinStatic(ctx, t, c, group, instance)

	m, err := kafka.NewMember(c, group, instance, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Heartbeat(id, generation); err != nil {
		t.Errorf("of a member: %v", err)
	}
	if err := m.Heartbeat("nobody", generation); !errors.Is(err, sarama.ErrUnknownMemberId) && !errors.Is(err, sarama.ErrFencedInstancedId) {
		t.Errorf("of nobody: %v", err)
	}
	if err := m.Heartbeat(id, generation+1); !errors.Is(err, sarama.ErrIllegalGeneration) {
		t.Errorf("of another generation: %v", err)
	}
	// After a connection that ended, and while the group waits for its members.
	cluster := k.Cluster()
	cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("connection lost"), true
	})
	if err := m.Heartbeat(id, generation); err == nil {
		t.Error("a heartbeat that was not answered is none")
	}
	cluster.ControlKey(int16(kmsg.Heartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
		response := r.ResponseKind().(*kmsg.HeartbeatResponse)
		response.ErrorCode = int16(sarama.ErrRebalanceInProgress)
		return response, nil, true
	})
	for range 2 {
		if err := m.Heartbeat(id, generation); err != nil {
			t.Errorf("of a member, again: %v", err)
		}
	}
}

// joinStatic makes a static member of topic t, and answers its id in a generation that gave it something.
func joinStatic(ctx context.Context, t *testing.T, c kafka.Cluster, group, instance string) (id string, generation int32) {
	t.Helper()
	assigned := make(chan struct{}, 1)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.ConsumerGroup(group), kgo.InstanceID(instance), kgo.ConsumeTopics("t"),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	select {
	case <-assigned:
	case <-ctx.Done():
		t.Fatal("the group was not joined")
	}
	return client.GroupMetadata()
}

func TestMemberLeaves(t *testing.T) {
	t.Parallel()
	const group, instance = "g", "i"
	k, c := start(t, map[string]int32{"t": 1})
	topics, err := kafka.OpenTopics(c)
	if err != nil {
		t.Fatal(err)
	}
	defer topics.Close()
	members := func(want int) {
		t.Helper()
		found, err := topics.Members(group)
		if err != nil || len(found) != want {
			t.Errorf("members %q, %v, want %d", found, err, want)
		}
	}
	id, generation := joinStatic(within(t), t, c, group, instance)
	m, err := kafka.NewMember(c, group, instance, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Leave(); err != nil {
		t.Errorf("before it is known who leaves: %v", err)
	}
	members(1)
	if err := m.Heartbeat(id, generation); err != nil {
		t.Fatal(err)
	}
	// An answer is for this member alone, not for another one that has its instance id; and the coordinator may be another one than before.
	asked := 0
	k.Cluster().ControlKey(int16(kmsg.LeaveGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().KeepControl()
		leaves := r.(*kmsg.LeaveGroupRequest).Members
		if len(leaves) != 1 || leaves[0].MemberID != id || leaves[0].InstanceID == nil || *leaves[0].InstanceID != instance {
			t.Errorf("the members %+v are to leave", leaves)
		}
		if asked++; asked == 1 {
			response := r.ResponseKind().(*kmsg.LeaveGroupResponse)
			response.ErrorCode = int16(sarama.ErrNotCoordinatorForConsumer)
			return response, nil, true
		}
		return nil, nil, false
	})
	for range 2 { // and when it is none any more
		if err := m.Leave(); err != nil {
			t.Error(err)
		}
	}
	members(0)
}

// Another process that has come with the same instance id is the member now.
func TestMemberThatWasReplacedDoesNotLeave(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	m, err := kafka.NewMember(c, "g", "i", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	id, generation := joinStatic(within(t), t, c, "g", "i")
	if err := m.Heartbeat(id, generation); err != nil {
		t.Fatal(err)
	}
	k.Cluster().ControlKey(int16(kmsg.LeaveGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
		response := r.ResponseKind().(*kmsg.LeaveGroupResponse)
		member := kmsg.NewLeaveGroupResponseMember()
		member.ErrorCode = int16(sarama.ErrFencedInstancedId)
		response.Members = append(response.Members, member)
		return response, nil, true
	})
	if err := m.Leave(); !errors.Is(err, sarama.ErrFencedInstancedId) {
		t.Errorf("of one that was replaced: %v", err)
	}
}
