package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/IBM/sarama"
)

// Owner is a member of a consumer group.
type Owner struct {
	ID    string // its instance id, or what the group calls it
	Host  string // as Kafka sees it
	Tells string // what it has told the group of itself; "": nothing
}

// Owners are, by the partitions of a topic, the members to which a consumer group has assigned them. Partitions without an owner, as
// all are during a rebalance, are not among them.
func (t *Topics) Owners(group, topic string) (map[int32]Owner, error) {
	groups, err := t.admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s who owns the partitions of topic %q in group %s: %w", t.at, topic, group, err)
	}
	owners := map[int32]Owner{}
	for _, g := range groups {
		if g.Err != sarama.ErrNoError && !errors.Is(g.Err, sarama.ErrGroupIDNotFound) {
			return nil, fmt.Errorf("asking Kafka at %s who owns the partitions of topic %q in group %s: %w", t.at, topic, group, g.Err)
		}
		for _, m := range g.Members {
			assignment, err := m.GetMemberAssignment()
			if err != nil || assignment == nil {
				continue
			}
			owner := ownerOf(m)
			for _, partition := range assignment.Topics[topic] {
				owners[partition] = owner
			}
		}
	}
	return owners, nil
}

func ownerOf(m *sarama.GroupMemberDescription) Owner {
	o := Owner{ID: m.MemberId, Host: strings.TrimPrefix(m.ClientHost, "/")}
	if m.GroupInstanceId != nil {
		o.ID = cmp.Or(*m.GroupInstanceId, o.ID)
	}
	if metadata, err := m.GetMemberMetadata(); err == nil && metadata != nil {
		o.Tells = string(metadata.UserData)
	}
	return o
}
