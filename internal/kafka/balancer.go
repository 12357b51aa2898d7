package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// balancer is a strategy of sarama for franz-go. sarama itself writes and reads what members say and are assigned, so that members of both
// clients can be in one group.
type balancer struct {
	strategy sarama.BalanceStrategy
	tells    []byte

	topics     func() []string                                                        // that the member reads
	partitions func(ctx context.Context, topics []string) (map[string][]int32, error) // as they are now: what franz-go knows may be a minute old
}

// ProtocolName implements kgo.GroupBalancer.
func (b *balancer) ProtocolName() string { return b.strategy.Name() }

// IsCooperative implements kgo.GroupBalancer.
func (b *balancer) IsCooperative() bool { return false }

// JoinGroupMetadata implements kgo.GroupBalancer. franz-go names the topics that it knows already: a member that joins with some of
// them would get partitions of those alone.
func (b *balancer) JoinGroupMetadata([]string, map[string][]int32, int32) []byte {
	var r sarama.JoinGroupRequest
	const ownedPartitions = 1 // the version that sarama writes for Kafka 2.4 to 3.1
	if err := r.AddGroupProtocolMetadata("", &sarama.ConsumerGroupMemberMetadata{Version: ownedPartitions, Topics: b.topics(), UserData: b.tells}); err != nil {
		return nil // a name of a topic is too long: it does not exist
	}
	return r.OrderedGroupProtocols[0].Metadata
}

// ParseSyncAssignment implements kgo.GroupBalancer.
func (b *balancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	if len(assignment) == 0 {
		return nil, nil
	}
	a, err := (&sarama.SyncGroupResponse{MemberAssignment: assignment}).GetMemberAssignment()
	if err != nil {
		return nil, err
	}
	return a.Topics, nil
}

// MemberBalancer implements kgo.GroupBalancer.
func (b *balancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	var r sarama.JoinGroupResponse
	for _, m := range members {
		r.Members = append(r.Members, sarama.GroupMember{MemberId: m.MemberID, Metadata: m.ProtocolMetadata})
	}
	said, err := r.GetMembers()
	if err != nil {
		return nil, nil, fmt.Errorf("reading what the members of the group say: %w", err)
	}
	topics := map[string]struct{}{}
	for _, m := range said {
		for _, topic := range m.Topics {
			topics[topic] = struct{}{}
		}
	}
	return balancing{b, said, slices.Sorted(maps.Keys(topics))}, topics, nil
}

// balancing shares out partitions once.
type balancing struct {
	*balancer
	members map[string]sarama.ConsumerGroupMemberMetadata
	topics  []string
}

// Balance implements kgo.GroupMemberBalancer. BalanceOrError is called in its place.
func (b balancing) Balance(map[string]int32) kgo.IntoSyncAssignment { return nil }

// BalanceOrError implements kgo.GroupMemberBalancerOrError.
func (b balancing) BalanceOrError(map[string]int32) (kgo.IntoSyncAssignment, error) {
	ctx, cancel := context.WithTimeout(context.Background(), metadataTimeout)
	defer cancel()
	partitions, err := b.partitions(ctx, b.topics)
	if err != nil {
		return nil, err
	}
	plan, err := b.strategy.Plan(b.members, partitions)
	if err != nil {
		return nil, fmt.Errorf("sharing out the partitions of the group: %w", err)
	}
	var shares shares
	for member := range b.members {
		var r sarama.SyncGroupRequest
		assignment := &sarama.ConsumerGroupMemberAssignment{Topics: plan[member]}
		if err := r.AddGroupAssignmentMember(member, assignment); err != nil {
			return nil, err
		}
		share := kmsg.NewSyncGroupRequestGroupAssignment()
		share.MemberID, share.MemberAssignment = member, r.GroupAssignments[0].Assignment
		shares = append(shares, share)
	}
	return shares, nil
}

// shares are what the members get.
type shares []kmsg.SyncGroupRequestGroupAssignment

// IntoSyncAssignment implements kgo.IntoSyncAssignment.
func (s shares) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment { return s }

// partitionsOf asks for the partitions of topics. One that does not exist is an error.
func partitionsOf(ctx context.Context, client *kgo.Client, topics []string) (map[string][]int32, error) {
	response, err := metadataRequest(topics...).RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("asking for the partitions of topics: %w", err)
	}
	partitions := make(map[string][]int32, len(topics))
	var problems []error
	for _, t := range response.Topics {
		if t.Topic == nil {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			problems = append(problems, fmt.Errorf("asking for the partitions of topic %q: %w", *t.Topic, err))
		}
		for _, p := range t.Partitions {
			partitions[*t.Topic] = append(partitions[*t.Topic], p.Partition)
		}
		slices.Sort(partitions[*t.Topic])
	}
	return partitions, errors.Join(problems...)
}
