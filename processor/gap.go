package processor

import "kafkagrpc/internal/consumergroup"

// gap tells of requests that nobody can read any more.
func (p *Processor) gap(g consumergroup.Gap) {
	attributes := []any{"topic", g.Topic, "partition", g.Partition, "committed", g.From, "next", g.To}
	if g.Other {
		p.config.Log.Warn("the offset to read next is above the end of the partition, which was made anew or has lost records: reading it from its start",
			attributes...)
		return
	}
	p.config.Telemetry.Metrics.Gone(p.config.Remote.Group, g.Topic, g.Unread)
	if g.Unread > 0 {
		p.config.Log.Error("requests were deleted before they were read, and nobody will be answered: the topic keeps them for less time than the group was away or behind",
			append(attributes, "records", g.Unread)...)
	}
}
