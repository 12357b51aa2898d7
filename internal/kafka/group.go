package kafka

import (
	"errors"

	"github.com/IBM/sarama"
)

// NewGroup is sarama.NewConsumerGroup for a group that finds its coordinator anew when that does not answer.
func NewGroup(brokers []string, id string, config *sarama.Config) (sarama.ConsumerGroup, error) {
	client, err := sarama.NewClient(brokers, config)
	if err != nil {
		return nil, err
	}
	inner, err := sarama.NewConsumerGroupFromClient(id, wary{client})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &group{inner, client}, nil
}

// group closes its client, too.
type group struct {
	sarama.ConsumerGroup
	client sarama.Client
}

// Close implements sarama.ConsumerGroup.
func (g *group) Close() error {
	err := g.ConsumerGroup.Close()
	if closed := g.client.Close(); !errors.Is(closed, sarama.ErrClosedClient) {
		err = errors.Join(err, closed)
	}
	return err
}
