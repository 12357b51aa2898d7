package kafka

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// partitioner puts equal keys into one partition, the one that the wire contract names, and a null key anywhere, unless it is pinned.
type partitioner struct {
	client *kgo.Client
	keyed  map[string]int32 // by topic, how many partitions have keys; 0: all that there are
}

// ForTopic implements kgo.Partitioner.
func (p *partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.client, topic, p.keyed[topic]}
}

type topicPartitioner struct {
	client *kgo.Client
	topic  string
	keyed  int32
}

// RequiresConsistency makes franz-go count the partitions without a leader too: a key keeps its partition while
// that one is down. A record without a key avoids it.
func (topicPartitioner) RequiresConsistency(r *kgo.Record) bool { return !anywhere(r) }

// anywhere reports whether nothing says where a record is to be.
func anywhere(r *kgo.Record) bool { return r.Key == nil && r.Context.(*sending).pin.Partition() < 0 }

// Partition is called for one record of the topic at a time.
func (p topicPartitioner) Partition(r *kgo.Record, partitions int) int {
	if anywhere(r) {
		return rand.IntN(partitions)
	}
	s, there := r.Context.(*sending), p.there(int32(partitions))
	if p.keyed > there {
		s.refused = fmt.Errorf("topic %q has %d partitions, and keys in %d", p.topic, there, p.keyed)
		return -1
	}
	if p.keyed > 0 {
		there = p.keyed
	}
	return int(s.pin.Place(r.Key, there))
}

// there leaves out partitions that the topic has no more, as it was deleted and made anew: franz-go keeps them, with an error that is
// none of Kafka's.
func (p topicPartitioner) there(partitions int32) int32 {
	for ; partitions > 1; partitions-- {
		_, _, err := p.client.PartitionLeader(p.topic, partitions-1)
		if code := (*kerr.Error)(nil); err == nil || errors.As(err, &code) {
			break
		}
	}
	return partitions
}
