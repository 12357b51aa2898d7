package embedded

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"
)

// KafkaOptions are the choices for an embedded Kafka.
type KafkaOptions struct {
	Port   int              // on 127.0.0.1, 0: a free one
	Topics map[string]int32 // topics to start with and their partition counts
}

// Kafka is a single broker in this process, in memory. It is safe for concurrent use.
type Kafka struct{ cluster *kfake.Cluster }

// StartKafka starts a broker that creates no topic unless it is told to.
func StartKafka(o KafkaOptions) (*Kafka, error) {
	options := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}),
	}
	if o.Port != 0 {
		options = append(options, kfake.Ports(o.Port))
	}
	for topic, partitions := range o.Topics {
		options = append(options, kfake.SeedTopics(partitions, topic))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return nil, fmt.Errorf("starting the embedded Kafka on 127.0.0.1:%d: %w", o.Port, err)
	}
	return &Kafka{cluster: cluster}, nil
}

// Brokers are the addresses to connect to.
func (k *Kafka) Brokers() []string { return k.cluster.ListenAddrs() }

// Cluster is the broker itself, for tests that make it fail.
func (k *Kafka) Cluster() *kfake.Cluster { return k.cluster }

// Close stops the broker and forgets its data.
func (k *Kafka) Close() { k.cluster.Close() }
