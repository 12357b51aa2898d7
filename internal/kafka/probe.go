package kafka

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Broker is what a probe found of one broker.
type Broker struct {
	Address string
	Named   bool                 // in Cluster.Brokers; the others were found through those
	TLS     *tls.ConnectionState // of the connection; nil where there is none, or no TLS
	Err     error                // why it cannot be used
}

// Probe connects to every broker of the cluster, with its TLS and SASL: those that are named, and those that they know of.
// It ends within about 20 seconds.
func (c Cluster) Probe() []Broker {
	named := make([]Broker, len(c.Brokers))
	known := make([][]string, len(c.Brokers))
	var asking sync.WaitGroup
	for i, address := range c.Brokers {
		asking.Go(func() { named[i], known[i] = c.probe(address) })
	}
	asking.Wait()
	seen := map[string]bool{}
	for i := range named {
		named[i].Named = true
		seen[named[i].Address] = true
	}
	var others []string
	for _, addresses := range known {
		for _, a := range addresses {
			if !seen[a] {
				seen[a] = true
				others = append(others, a)
			}
		}
	}
	found := make([]Broker, len(others))
	for i, address := range others {
		asking.Go(func() { found[i], _ = c.probe(address) })
	}
	asking.Wait()
	return append(named, found...)
}

// probe greets one broker, and learns of the others from it.
func (c Cluster) probe(address string) (b Broker, others []string) {
	b.Address = address
	metadata, state, err := c.greet(address)
	if b.TLS = state; err != nil {
		b.Err = err
		if why, _ := c.refusal(err); why != "" {
			b.Err = fmt.Errorf("%s: %w", why, err)
		}
		return b, nil
	}
	for _, other := range metadata.Brokers {
		others = append(others, net.JoinHostPort(other.Host, strconv.Itoa(int(other.Port))))
	}
	return b, others
}

// TopicReport is what an inspection found of one topic.
type TopicReport struct {
	Name       string
	Partitions int           // 0: it does not exist
	MaxRecord  int           // bytes, as Size counts them
	Retention  time.Duration // see Topics.Retention
	Group      int           // of an input, and of the group's own topics that have keys: partitions of the group; else 0
}

// Inspect looks at the topics without creating any. The problems are those that Ensure would report.
func (t *Topics) Inspect(n Needs) (topics []TopicReport, problems []error, err error) {
	found, err := t.survey(n)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range n.all() {
		report := TopicReport{Name: name, Partitions: found[name].partitions, MaxRecord: recordLimit(found[name].maxBytes), Retention: found[name].retention}
		if name == n.Table || name == n.Loop || slices.Contains(n.Inputs, name) {
			report.Group = n.partitions(found)
		}
		topics = append(topics, report)
	}
	var joined interface{ Unwrap() []error }
	if errors.As(n.check(found, t.at), &joined) {
		problems = joined.Unwrap()
	}
	return topics, problems, nil
}
