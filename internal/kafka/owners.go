package kafka

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"
)

// Owners are, by the partitions of a topic, what the members that a consumer group assigned them to have told it of themselves.
// Partitions without an owner, as all are during a rebalance, are not among them, nor are those of members that tell nothing.
func (t *Topics) Owners(group, topic string) (map[int32]string, error) {
	groups, err := t.admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s who owns the partitions of topic %q in group %s: %w", t.at, topic, group, err)
	}
	owners := map[int32]string{}
	for _, g := range groups {
		if g.Err != sarama.ErrNoError && !errors.Is(g.Err, sarama.ErrGroupIDNotFound) {
			return nil, fmt.Errorf("asking Kafka at %s who owns the partitions of topic %q in group %s: %w", t.at, topic, group, g.Err)
		}
		for _, m := range g.Members {
			metadata, err := m.GetMemberMetadata()
			if err != nil || metadata == nil || len(metadata.UserData) == 0 {
				continue // it tells nothing
			}
			assignment, err := m.GetMemberAssignment()
			if err != nil || assignment == nil {
				continue
			}
			for _, partition := range assignment.Topics[topic] {
				owners[partition] = string(metadata.UserData)
			}
		}
	}
	return owners, nil
}
