package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Members are those of a consumer group, each as "instance id at host"; none where the group does not exist. A static
// member that was stopped is one until its session times out.
func (t *Topics) Members(group string) ([]string, error) {
	found, err := t.members(group)
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s for the members of group %s: %w", t.at, group, err)
	}
	var members []string
	for _, m := range found {
		owner := ownerOf(m)
		members = append(members, fmt.Sprintf("%s at %s", owner.ID, owner.Host))
	}
	slices.Sort(members)
	return members, nil
}

// ForgetGroup deletes a consumer group with its committed offsets. Kafka refuses to for a group that has members. A group
// that does not exist is forgotten already.
func (t *Topics) ForgetGroup(group string) error {
	_, err := untilAnswered(func(ctx context.Context) (kadm.DeleteGroupResponse, error) { return t.admin.DeleteGroup(ctx, group) })
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("deleting group %s on Kafka at %s: %w", group, t.at, err)
	}
	return nil
}

// Delete deletes a topic. One that does not exist is deleted already.
func (t *Topics) Delete(topic string) error {
	_, err := untilAnswered(func(ctx context.Context) (kadm.DeleteTopicResponse, error) { return t.admin.DeleteTopic(ctx, topic) })
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("deleting topic %q on Kafka at %s: %w", topic, t.at, err)
	}
	return nil
}
