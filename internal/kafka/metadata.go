package kafka

import (
	"errors"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// unknownTopicTimeout is how long a topic may be unknown to the brokers, which tell each other of a new one within
// moments, before it counts as gone.
const unknownTopicTimeout = time.Second

// metadataClient is a sarama.Client for a producer, which asks it where the records of a topic go. sarama would look
// for a topic that does not exist as long as for a cluster that cannot be reached, once for each record, and would hold
// up the records of all other topics meanwhile. Here it is searched for only once, and not for long.
//
// The client inside must not try again by itself (Metadata.Retry.Max 0).
type metadataClient struct {
	sarama.Client

	mu   sync.Mutex
	gone map[string]time.Time // topics that were not found, and when they were last asked for
}

// RefreshMetadata implements sarama.Client.
func (c *metadataClient) RefreshMetadata(topics ...string) error {
	if len(topics) == 0 { // all that the cluster has
		return c.Client.RefreshMetadata()
	}
	var errs []error
	for _, topic := range topics {
		errs = append(errs, c.find(topic, func() error { return c.Client.RefreshMetadata(topic) }))
	}
	return errors.Join(errs...)
}

// Partitions implements sarama.Client.
func (c *metadataClient) Partitions(topic string) (partitions []int32, err error) {
	err = c.find(topic, func() (err error) {
		partitions, err = c.Client.Partitions(topic)
		return err
	})
	return partitions, err
}

// WritablePartitions implements sarama.Client.
func (c *metadataClient) WritablePartitions(topic string) (partitions []int32, err error) {
	err = c.find(topic, func() (err error) {
		partitions, err = c.Client.WritablePartitions(topic)
		return err
	})
	return partitions, err
}

// Leader implements sarama.Client.
func (c *metadataClient) Leader(topic string, partition int32) (leader *sarama.Broker, err error) {
	err = c.find(topic, func() (err error) {
		leader, err = c.Client.Leader(topic, partition)
		return err
	})
	return leader, err
}

// find asks for what belongs to a topic until it is found, or there is no hope.
func (c *metadataClient) find(topic string, ask func() error) error {
	begun := time.Now()
	wasGone, rest := c.isGone(topic, begun)
	if rest {
		return sarama.ErrUnknownTopicOrPartition
	}
	for first := true; ; first = false {
		err := ask()
		unknown := errors.Is(err, sarama.ErrUnknownTopicOrPartition)
		now := time.Now()
		patience := producerMetadataTimeout
		if unknown {
			patience = unknownTopicTimeout
		}
		switch {
		case err == nil:
			if wasGone {
				c.found(topic)
			}
			return nil
		case unknown && (wasGone || now.Sub(begun) >= patience):
			c.lost(topic, now)
			return err
		case hopeless(err) || now.Sub(begun) >= patience:
			return err
		}
		if first && errors.Is(err, sarama.ErrOutOfBrokers) {
			continue // that connections ended while they were idle shows once
		}
		time.Sleep(metadataBackoff)
	}
}

// isGone reports whether the topic was not found before, and whether that was so lately that it is not worth asking.
func (c *metadataClient) isGone(topic string, now time.Time) (gone, lately bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, gone := c.gone[topic]
	return gone, gone && now.Sub(at) < metadataBackoff
}

func (c *metadataClient) lost(topic string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone[topic] = now
}

func (c *metadataClient) found(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.gone, topic)
}

// restless is how many times a record is sent again at once. Brokers end connections that were idle, which shows only when a
// record is sent; and after that sarama gives the next record of the partition back once, to keep the order.
const restless = 2

// backoff is what a producer rests before it sends a record again, or after one that found no leader. sarama rests for each
// record of a topic that is gone, which all others wait for, so it must not then. Nor after Close.
func (c *metadataClient) backoff(retries, _ int) time.Duration {
	if 0 < retries && retries <= restless || c.Closed() {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.gone {
		if time.Since(at) < unknownTopicTimeout {
			return 0
		}
	}
	return retryBackoff
}

// hopeless tells the errors that asking again does not cure.
func hopeless(err error) bool {
	return errors.Is(err, sarama.ErrClosedClient) || errors.Is(err, sarama.ErrInvalidTopic) ||
		errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrSASLAuthenticationFailed)
}
