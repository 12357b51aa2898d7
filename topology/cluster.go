package topology

import (
	"strings"
)

// maxRack is far above the name of any rack. Kafka's strings are shorter than 32 KiB, and one that is not would end each fetch.
const maxRack = 255

// cluster is the Kafka cluster of a kafka client binding.
func (c *compiler) cluster(b *binding, spec *kafkaClient) *Cluster {
	if k, done := c.clusters[b.name]; done {
		return k
	}
	k := &Cluster{Binding: b.name, Brokers: c.options.Brokers}
	c.clusters[b.name] = k
	if next := c.ahead(b); next != nil {
		if through, ok := next.spec.(*tlsClient); ok {
			k.TLS = c.clientTLS(next, through)
		}
	}
	k.SASL = c.sasl(spec, k.TLS != nil)
	if rack := spec.Options.Rack; len(rack.value) <= maxRack {
		k.Rack = rack.value
	} else {
		c.report.problem(rack.position, "%s must have at most %d bytes, not %d", rack.place, maxRack, len(rack.value))
	}
	if len(k.Brokers) > 0 {
		return k
	}
	if len(spec.Options.Servers) == 0 {
		c.report.problem(b.at, "`options.servers` of %s is missing; add the host:port of the brokers", b.place)
	}
	for _, s := range spec.Options.Servers {
		if !s.ok {
			continue
		}
		if wrong := wrongAddress(s.value); wrong != "" {
			c.report.problem(s.position, "%s %s, not `%s`", s.place, wrong, s.raw)
			continue
		}
		k.Brokers = append(k.Brokers, s.value)
	}
	return k
}

// clusterOf follows the kafka bindings from a cache_client to the cluster of a topic.
func (c *compiler) clusterOf(first *binding, topic text) *Cluster {
	for b := first; b != nil; {
		switch spec := b.spec.(type) {
		case *kafkaCache:
			exit, found := cacheExit(spec, topic.value)
			if !found {
				if len(spec.Routes) > 0 {
					c.report.problem(topic.position, "%s: no route of %s takes topic `%s`; add it there", topic.place, b.place, topic.raw)
				}
				return nil
			}
			b = c.graph.next(b, exit)
		case *kafkaClient:
			return c.cluster(b, spec)
		default:
			return nil
		}
	}
	return nil
}

func cacheExit(spec *kafkaCache, topic string) (exit text, found bool) {
	for _, r := range spec.Routes {
		matches := len(r.When) == 0
		for _, w := range r.When {
			matches = matches || w.Topic.ok && matchTopic(w.Topic.value, topic)
		}
		if !matches {
			continue
		}
		if r.Exit.given {
			return r.Exit, true
		}
		return spec.Exit, true
	}
	return spec.Exit, spec.Exit.given
}

// matchTopic matches a topic against a pattern in which * stands for any characters.
func matchTopic(pattern, topic string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == topic
	}
	rest, ok := strings.CutPrefix(topic, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[last])
}

// oneCluster is the cluster that all topics of a binding are on.
func (c *compiler) oneCluster(first *binding, topics ...text) *Cluster {
	var one *Cluster
	for _, t := range topics {
		if !t.ok || first == nil {
			continue
		}
		k := c.clusterOf(first, t)
		if k != nil && one != nil && k != one {
			c.report.problem(t.position, "%s: topic `%s` is on another cluster (`%s`) than the topics before it (`%s`); use one cluster in a binding",
				t.place, t.raw, k.Binding, one.Binding)
		}
		if one == nil {
			one = k
		}
	}
	return one
}
