package kafka_test

import (
	"context"
	"errors"
	"testing"
	"time"

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
	assigned := make(chan struct{}, 1)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.ConsumerGroup(group), kgo.InstanceID(instance), kgo.ConsumeTopics("t"),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	select {
	case <-assigned:
	case <-ctx.Done():
		t.Fatal("the group was not joined")
	}
	id, generation := client.GroupMetadata()

	m, err := kafka.NewMember(c, group, instance, time.Second)
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
