package kafka

import (
	"fmt"

	"github.com/IBM/sarama"

	"kafkagrpc/wire"
)

// partitioner puts equal keys into one partition, the one that the wire contract names, and a null key anywhere.
type partitioner struct {
	random sarama.Partitioner
	topic  string
	keyed  int32 // how many partitions have keys; 0: all that there are
}

func newPartitioner(topic string, keyed int32) sarama.Partitioner {
	return partitioner{sarama.NewRandomPartitioner(topic), topic, keyed}
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
	if p.keyed > partitions {
		return -1, fmt.Errorf("topic %q has %d partitions, and keys in %d: %w", p.topic, partitions, p.keyed, sarama.ErrInvalidPartition)
	}
	if p.keyed > 0 {
		partitions = p.keyed
	}
	pin, _ := m.Metadata.(*wire.Pin)
	return pin.Place(key, partitions), nil
}

// RequiresConsistency makes sarama count the partitions without a leader too: a key keeps its partition while
// that one is down.
func (p partitioner) RequiresConsistency() bool { return true }

// MessageRequiresConsistency lets a record without a key avoid a partition that is down.
func (p partitioner) MessageRequiresConsistency(m *sarama.ProducerMessage) bool { return m.Key != nil }

var _ sarama.DynamicConsistencyPartitioner = partitioner{}
