package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/IBM/sarama"
)

// Members are those of a consumer group, each as "instance id at host"; none where the group does not exist. A static
// member that was stopped is one until its session times out.
func (t *Topics) Members(group string) ([]string, error) {
	groups, err := t.admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s for the members of group %s: %w", t.at, group, err)
	}
	var members []string
	for _, g := range groups {
		if g.Err != sarama.ErrNoError && !errors.Is(g.Err, sarama.ErrGroupIDNotFound) {
			return nil, fmt.Errorf("asking Kafka at %s for the members of group %s: %w", t.at, group, g.Err)
		}
		for _, m := range g.Members {
			id := m.MemberId
			if m.GroupInstanceId != nil {
				id = *m.GroupInstanceId
			}
			members = append(members, fmt.Sprintf("%s at %s", id, strings.TrimPrefix(m.ClientHost, "/")))
		}
	}
	slices.Sort(members)
	return members, nil
}

// ForgetGroup deletes a consumer group with its committed offsets. Kafka refuses to for a group that has members. A group
// that does not exist is forgotten already.
func (t *Topics) ForgetGroup(group string) error {
	err := t.admin.DeleteConsumerGroup(group)
	if err != nil && !errors.Is(err, sarama.ErrGroupIDNotFound) {
		return fmt.Errorf("deleting group %s on Kafka at %s: %w", group, t.at, err)
	}
	return nil
}

// Delete deletes a topic. One that does not exist is deleted already.
func (t *Topics) Delete(topic string) error {
	err := t.admin.DeleteTopic(topic)
	if err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return fmt.Errorf("deleting topic %q on Kafka at %s: %w", topic, t.at, err)
	}
	return nil
}
