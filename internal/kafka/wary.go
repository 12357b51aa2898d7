package kafka

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/IBM/sarama"
)

// wary is a sarama.Client that names no broker which does not answer, where another one may. sarama's admin client asks one
// coordinator again and again, as long as it is not told of another one, and any broker once.
type wary struct{ sarama.Client }

// Coordinator implements sarama.Client.
func (c wary) Coordinator(group string) (*sarama.Broker, error) {
	broker, err := c.Client.Coordinator(group)
	if err != nil || c.connect(broker) == nil {
		return broker, err
	}
	if err := c.RefreshCoordinator(group); err != nil {
		return nil, err
	}
	if broker, err = c.Client.Coordinator(group); err != nil {
		return nil, err
	}
	if err := c.connect(broker); err != nil {
		return nil, fmt.Errorf("the coordinator of group %s: %w", group, err)
	}
	return broker, nil
}

// Controller implements sarama.Client. Any broker takes the place of one that does not answer: it tells of topics, too, and
// passes on what only the controller can do.
func (c wary) Controller() (*sarama.Broker, error) {
	broker, err := c.Client.Controller()
	if err == nil && c.connect(broker) == nil {
		return broker, nil
	}
	if other := c.any(); other != nil {
		return other, nil
	}
	return broker, err
}

// RefreshController implements sarama.Client.
func (c wary) RefreshController() (*sarama.Broker, error) {
	if _, err := c.Client.RefreshController(); err != nil {
		return nil, err
	}
	return c.Controller()
}

// LeastLoadedBroker implements sarama.Client.
func (c wary) LeastLoadedBroker() *sarama.Broker {
	broker := c.Client.LeastLoadedBroker()
	if broker == nil || c.connect(broker) == nil {
		return broker
	}
	if other := c.any(); other != nil {
		return other
	}
	return broker
}

// Brokers implements sarama.Client. It is the one to ask, where any answers.
func (c wary) Brokers() []*sarama.Broker {
	if broker, err := c.Controller(); err == nil && c.connect(broker) == nil {
		return []*sarama.Broker{broker}
	}
	return c.Client.Brokers()
}

// any is a broker that answers, always the same as long as it does; nil where none does.
func (c wary) any() *sarama.Broker {
	brokers := c.Client.Brokers()
	slices.SortFunc(brokers, func(a, b *sarama.Broker) int { return cmp.Compare(a.ID(), b.ID()) })
	for _, b := range brokers {
		if c.connect(b) == nil {
			return b
		}
	}
	return nil
}

// connect answers why there is no connection to a broker.
func (c wary) connect(broker *sarama.Broker) error {
	_ = broker.Open(c.Config()) // that it is open already is no error
	connected, err := broker.Connected()
	if err == nil && !connected {
		err = sarama.ErrNotConnected
	}
	return err
}
