package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A key has its place in one of so many partitions, and keeps it: its row is there, and so its requests must come there. So
// the count of a group is that of its table, whatever partitions its other topics get later. A table that got more itself is
// known by its loop topic, which was made with it, and by what is in the new partitions: nothing.

// partitions is the count of the group; before it has topics of its own, that of its inputs.
func (n Needs) partitions(found map[string]topicState) int {
	if table, ok := there(found, n.Table); ok {
		switch {
		case n.TableID != "" && n.TableID == table.id:
			return n.Partitions
		case table.keyed > 0:
			return table.keyed
		}
		return table.partitions
	}
	least := 0
	for _, name := range append(slices.Clone(n.Inputs), n.Loop) {
		if f, ok := there(found, name); ok && (least == 0 || f.partitions < least) {
			least = f.partitions
		}
	}
	return least
}

// there finds a topic that exists.
func there(found map[string]topicState, topic string) (topicState, bool) {
	f, ok := found[topic]
	return f, ok && !f.missing
}

// tooFew says what is wrong with an input that lacks partitions of the group.
func (n Needs) tooFew(input string, found map[string]topicState) error {
	want := n.partitions(found)
	f, ok := there(found, input)
	if !ok || f.partitions >= want {
		return nil
	}
	return fmt.Errorf("request topic %q has %d partitions, and table topic %q has keys in %d: add partitions to the request topic until it has %[4]d",
		input, f.partitions, n.Table, want)
}

// unequal says what is wrong with inputs that a group without topics of its own would begin with.
func (n Needs) unequal(found map[string]topicState) error {
	var counts []string
	equal, first := true, 0
	for _, name := range n.Inputs {
		if f, ok := there(found, name); ok {
			counts = append(counts, fmt.Sprintf("%q has %d", name, f.partitions))
			if first == 0 {
				first = f.partitions
			}
			equal = equal && f.partitions == first
		}
	}
	if equal {
		return nil
	}
	return fmt.Errorf("the request topics of one group must have equal partition counts, or a key has no place in the table: %s; "+
		"add partitions to the smaller ones", strings.Join(counts, ", "))
}

// survey describes the topics, and tells a table that got more partitions than the group has.
func (t *Topics) survey(n Needs) (map[string]topicState, error) {
	found, err := t.describe(n.all())
	if err != nil || n.Table == "" || n.Loop == "" {
		return found, err
	}
	table, hasTable := there(found, n.Table)
	loop, hasLoop := there(found, n.Loop)
	if !hasTable || !hasLoop || loop.partitions >= table.partitions {
		return found, nil
	}
	var added []int32
	for p := loop.partitions; p < table.partitions; p++ {
		added = append(added, int32(p))
	}
	ends, err := t.reader.offsets("the end", n.Table, added, newest, uncommitted)
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s: %w", t.at, err)
	}
	for _, end := range ends {
		if end > 0 { // it has rows: the loop topic is too small
			return found, nil
		}
	}
	table.keyed = loop.partitions
	found[n.Table] = table
	return found, nil
}

// KeyPartitions is among how many of a table's partitions the keys of a group have their places. Where its loop topic is "",
// or may not be looked at, these are all that there are.
func (t *Topics) KeyPartitions(table, loop string) (int, error) {
	n := Needs{Table: table, Loop: loop}
	found, err := t.survey(n)
	if loop != "" && errors.Is(err, kerr.TopicAuthorizationFailed) {
		return t.KeyPartitions(table, "")
	}
	if err != nil {
		return 0, err
	}
	if _, ok := there(found, table); !ok {
		return 0, fmt.Errorf("topic %q does not exist on Kafka at %s", table, t.at)
	}
	return n.partitions(found), nil
}

// Partitions is how many partitions a topic has.
func (t *Topics) Partitions(topic string) (int, error) {
	f, err := t.existing(topic)
	if err != nil {
		return 0, err
	}
	return f.partitions, nil
}

// Count is how many partitions those of the topics have now that the brokers know.
func (r *Reader) Count(ctx context.Context, topics []string) (map[string]int, error) {
	found, err := r.metadata(ctx, renewed, topics...)
	if err != nil {
		return nil, fmt.Errorf("asking for the partitions of topics %s: %w", strings.Join(topics, ", "), err)
	}
	counts := make(map[string]int, len(topics))
	for _, t := range found {
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case err == nil:
			counts[*t.Topic] = len(t.Partitions)
		case !errors.Is(err, kerr.UnknownTopicOrPartition) && !errors.Is(err, kerr.LeaderNotAvailable):
			return nil, fmt.Errorf("asking for the partitions of topic %q: %w", *t.Topic, err)
		}
	}
	return counts, nil
}
