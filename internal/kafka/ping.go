package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// pingTime is what one broker may take to connect, and to answer, when it is asked whether it is there; less where otherwise
// those behind it in the list would not be asked any more.
const pingTime = time.Second

// Ping tells whether any broker that the cluster is reached by answers, on a connection of its own. One that refuses this
// client, such as for its password, has answered. It ends soon after ctx does.
func (c Cluster) Ping(ctx context.Context) error {
	var failures []error
	for i, address := range c.Brokers {
		if ctx.Err() != nil {
			break
		}
		most := pingTime
		if deadline, ok := ctx.Deadline(); ok {
			most = max(time.Millisecond, min(most, time.Until(deadline)/time.Duration(len(c.Brokers)-i)))
		}
		err := c.ping(address, most)
		if err == nil {
			return nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", address, err))
	}
	return fmt.Errorf("cannot reach Kafka at %s: %w", strings.Join(c.Brokers, ", "), errors.Join(append(failures, context.Cause(ctx))...))
}

// alive is a ping that a client without a token takes for an answer: it has not come to ask.
func (c Cluster) alive(address string) error {
	err := c.ping(address, pingTime)
	if noToken := (*tokenError)(nil); errors.As(err, &noToken) {
		return nil
	}
	return err
}

// ping asks one broker whether it is there.
func (c Cluster) ping(address string, most time.Duration) (err error) {
	defer func() {
		var silent *silentError
		var noToken *tokenError
		if _, refused := c.refusal(err); refused && !errors.As(err, &silent) && !errors.As(err, &noToken) {
			err = nil
		}
	}()
	return c.askBroker(address, most, func(b *sarama.Broker) error {
		_, err := b.ApiVersions(&sarama.ApiVersionsRequest{})
		return err
	})
}

// askBroker puts one question to one broker, on a connection of its own. Each step of it may take some time at most.
func (c Cluster) askBroker(address string, most time.Duration, ask func(*sarama.Broker) error) error {
	config := c.Config()
	config.ApiVersionsRequest = false // the version of the question is one that all brokers have
	config.Net.Proxy.Dialer = c.dialer(hasty(most))
	broker := sarama.NewBroker(address)
	if err := broker.Open(config); err != nil {
		return err
	}
	// Waits for the connection, and answers why there is none.
	if connected, err := broker.Connected(); err != nil || !connected {
		return err
	}
	err := ask(broker)
	if closed := broker.Close(); err == nil {
		err = closed
	}
	return err
}
