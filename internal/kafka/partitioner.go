package kafka

import (
	"github.com/IBM/sarama"

	"kafkagrpc/internal/wire"
)

// partitioner puts equal keys into one partition, the one that the wire contract names, and a null key anywhere.
type partitioner struct{ random sarama.Partitioner }

func newPartitioner(topic string) sarama.Partitioner {
	return partitioner{random: sarama.NewRandomPartitioner(topic)}
}

// Partition is called by one goroutine per topic.
func (p partitioner) Partition(m *sarama.ProducerMessage, partitions int32) (int32, error) {
	if m.Key == nil {
		return p.random.Partition(m, partitions)
	}
	key, err := m.Key.Encode()
	if err != nil {
		return -1, err
	}
	return wire.Partition(key, partitions), nil
}

// RequiresConsistency makes sarama count the partitions without a leader too: a key keeps its partition while
// that one is down.
func (p partitioner) RequiresConsistency() bool { return true }

// MessageRequiresConsistency lets a record without a key avoid a partition that is down.
func (p partitioner) MessageRequiresConsistency(m *sarama.ProducerMessage) bool { return m.Key != nil }

var _ sarama.DynamicConsistencyPartitioner = partitioner{}
