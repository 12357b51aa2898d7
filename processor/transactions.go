package processor

import (
	"time"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/partition"
)

// With processing.guarantee: exactly-once, all that a run writes is committed in transactions, with the offsets of what is finished by that. One that
// fails ends the run: what it has in memory is ahead of what is committed. The next one begins by ending what was left open.

// transacted are the topics that transactions write to, and to how many of their partitions; 0: all.
func (p *Processor) transacted(needs kafka.Needs) map[string]int32 {
	topics := make(map[string]int32)
	for _, topic := range p.written(needs) {
		topics[topic] = 0
	}
	topics[needs.Table], topics[needs.Loop] = p.partitions.Load(), p.partitions.Load() // what is in others tells that they are used
	return topics
}

// newProducer is that of the outbox.
func (r *run) newProducer(cluster kafka.Cluster) (*kafka.Producer, error) {
	processing := r.config.Remote.Processing
	if !processing.ExactlyOnce() {
		return kafka.NewFencedProducer(cluster, r.group.Lost)
	}
	return kafka.NewTransactionalProducer(cluster, r.group.Lost, kafka.Transactions{
		ID:       r.transactionalID(),
		Version2: r.version2,
		Group:    r.config.Remote.Group, InstanceID: r.config.InstanceID,
		Offsets: r.offsets, Failed: r.group.Abandon,
		Refused: r.missing.Refuse, Alone: r.missing.Careful(),
		Ended: func(took time.Duration, err error) {
			r.config.Telemetry.Metrics.Transacted(r.config.Remote.Group, took, err != nil)
		},
		Max: processing.TransactionMax, MaxBytes: processing.TransactionMaxBytes,
	})
}

// offsets are what the transaction commits that is about to end.
func (r *run) offsets() (kafka.MemberOffsets, error) {
	member, err := r.group.TransactionOffsets()
	offsets := make([]kafka.CommittedOffset, len(member.Offsets))
	for i, o := range member.Offsets {
		offsets[i] = kafka.CommittedOffset(o)
	}
	return kafka.MemberOffsets{MemberID: member.MemberID, Generation: member.Generation, Offsets: offsets}, err
}

// transactions are those of the outbox, for the group; nil where there are none.
func (r *run) transactions() consumergroup.Transactions {
	if !r.config.Remote.Processing.ExactlyOnce() {
		return nil
	}
	return committer{r}
}

// committer commits the offsets of the group, which has none before there is an outbox.
type committer struct{ *run }

// Stir implements consumergroup.Transactions.
func (c committer) Stir() { c.outbox.Producer.Stir() }

// Settle implements consumergroup.Transactions.
func (c committer) Settle() error { return c.outbox.Producer.Settle() }

// rows are those of a partition, as its goroutine is to see them.
func (r *run) rows(id int32) partition.Rows {
	if r.config.Remote.Processing.ExactlyOnce() {
		return r.changelog.held(id)
	}
	return r.changelog.store(id)
}
