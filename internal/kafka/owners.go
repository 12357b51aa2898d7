package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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
	members, err := t.members(group)
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s who owns the partitions of topic %q in group %s: %w", t.at, topic, group, err)
	}
	owners := map[int32]Owner{}
	for _, m := range members {
		assigned, ok := m.Assigned.AsConsumer()
		if !ok {
			continue
		}
		owner := ownerOf(m)
		for _, of := range assigned.Topics {
			if of.Topic != topic {
				continue
			}
			for _, partition := range of.Partitions {
				owners[partition] = owner
			}
		}
	}
	return owners, nil
}

// members are those of a group; none where it does not exist.
func (t *Topics) members(group string) ([]kadm.DescribedGroupMember, error) {
	groups, err := untilAnswered(func(ctx context.Context) (kadm.DescribedGroups, error) {
		groups, err := t.admin.DescribeGroups(ctx, group)
		return groups, cmp.Or(err, groups[group].Err)
	})
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	return groups[group].Members, nil
}

func ownerOf(m kadm.DescribedGroupMember) Owner {
	o := Owner{ID: m.MemberID, Host: strings.TrimPrefix(m.ClientHost, "/")}
	if m.InstanceID != nil {
		o.ID = cmp.Or(*m.InstanceID, o.ID)
	}
	if metadata, ok := m.Join.AsConsumer(); ok {
		o.Tells = string(metadata.UserData)
	}
	return o
}
