package processor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// The table has its rows in so many partitions, and a key stays in its own. A request topic that gets more partitions is
// read nevertheless: what comes in those that the table lacks goes through the loop topic, as everything that is not where
// its key belongs. goka, for which all topics have as many partitions, sees nothing of it.

// partitionsInterval is how often the partitions of the topics are counted.
const partitionsInterval = 2 * time.Second

// balance is goka's strategy, which puts equal partitions of all topics to one member, for those that the table has. The
// others are spread over the members. It has goka's name, so that a version without it can be in the group.
type balance struct {
	sarama.BalanceStrategy
	partitions int32
}

// Plan implements sarama.BalanceStrategy.
func (b balance) Plan(members map[string]sarama.ConsumerGroupMemberMetadata, topics map[string][]int32) (sarama.BalanceStrategyPlan, error) {
	type claim struct {
		topic     string
		partition int32
	}
	var surplus []claim
	known := make(map[string][]int32, len(topics))
	for topic, partitions := range topics {
		known[topic] = []int32{}
		for _, p := range partitions {
			if p < b.partitions {
				known[topic] = append(known[topic], p)
			} else {
				surplus = append(surplus, claim{topic, p})
			}
		}
	}
	plan, err := b.BalanceStrategy.Plan(members, known)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(surplus, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.topic, b.topic))
	})
	names := slices.Sorted(maps.Keys(members))
	for i, c := range surplus {
		for n := range names { // one that left the topic out does not read it
			if name := names[(i+n)%len(names)]; slices.Contains(members[name].Topics, c.topic) {
				plan.Add(name, c.topic, c.partition)
				break
			}
		}
	}
	return plan, nil
}

// passOn sends a record of a partition that the table lacks through the loop topic, and calls done when it is there.
func (p *Processor) passOn(producer *kafka.Producer, r *wire.Record, done func(error)) {
	p.binding.PassOn(*r, producer.SendPinned, func(err error) {
		if err != nil {
			err = fmt.Errorf("passing on %s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err)
		}
		done(err)
	})
}

// errPartitions ends a goka processor whose topics have fewer partitions than it works with.
var errPartitions = errors.New("a topic has fewer partitions than before")

// watchPartitions counts the partitions of the topics until ctx ends: when there are more, the members of the group share them
// out anew, and when there are too few it calls end.
func (p *Processor) watchPartitions(ctx context.Context, reader *kafka.Reader, end context.CancelCauseFunc) {
	p.mu.RLock()
	group := p.group
	p.mu.RUnlock()
	topics := append(slices.Clone(p.inputs), p.config.Remote.Table, p.config.Remote.Loop)
	tick := time.NewTicker(partitionsInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		counts, err := reader.Count(ctx, topics)
		if err != nil {
			p.config.Log.Debug("the partitions of the topics could not be counted", "error", err)
			continue
		}
		for topic, n := range counts {
			if most := int(p.partitions.Load()); n < most {
				end(fmt.Errorf("%w: topic %s has %d, and there were %d", errPartitions, topic, n, most))
				return
			}
		}
		if p.counted(counts) {
			group.Rejoin()
		}
	}
}

// countPartitions counts the partitions of the topics, before they are read.
func (p *Processor) countPartitions(topics *kafka.Topics, n kafka.Needs) error {
	counts := make(map[string]int)
	for _, topic := range append(slices.Clone(n.Inputs), n.Table, n.Loop) {
		var err error
		if counts[topic], err = topics.Partitions(topic); err != nil {
			return err
		}
	}
	p.mu.Lock()
	maps.DeleteFunc(p.counts, func(topic string, _ int) bool { return counts[topic] == 0 }) // it is left out now
	p.mu.Unlock()
	p.counted(counts)
	return nil
}

// counted takes in how many partitions the topics have now, and says so where they are more than the table's. It reports
// whether there is one more of a topic that is read.
func (p *Processor) counted(counts map[string]int) (more bool) {
	most := int(p.partitions.Load())
	var grown []string
	p.mu.Lock()
	for topic, n := range counts {
		switch {
		case n <= most:
			delete(p.counts, topic)
		case n != p.counts[topic]:
			if p.counts == nil {
				p.counts = make(map[string]int)
			}
			p.counts[topic] = n
			grown = append(grown, topic)
		}
	}
	p.mu.Unlock()
	slices.Sort(grown)
	for _, topic := range grown {
		p.config.Log.Warn("a topic has more partitions than the group: "+p.surplus(topic, counts[topic]),
			"topic", topic, "partitions", counts[topic], "partitions_of_the_group", most)
		more = more || topic != p.config.Remote.Table
	}
	return more
}

// surplus says what becomes of the partitions that a topic has and the group lacks.
func (p *Processor) surplus(topic string, n int) string {
	most := p.partitions.Load()
	switch topic {
	case p.config.Remote.Table, p.config.Remote.Loop:
		return fmt.Sprintf("it has %d, of which %d are used, as before: each key stays where its result is. "+
			"Never add partitions to it: docs/operations.md tells how their number is changed", n, most)
	default:
		if p.config.Remote.Processing.Ordered() {
			return fmt.Sprintf("it has %d, and the table %d: requests in the further ones go through the loop topic to the partitions that their keys had before, if it has a multiple of them "+
				"now; otherwise the order of calls and results are not kept over this change. docs/operations.md tells how partitions are added", n, most)
		}
		return fmt.Sprintf("it has %d, and the table %d: requests in the further ones go through the loop topic to those of their keys, and no more than %[2]d "+
			"instances can work. Nothing needs to be done; for more instances, docs/operations.md tells how the number of partitions is changed", n, most)
	}
}
