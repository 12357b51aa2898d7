package views

import "kafkagrpc/views/viewspb"

// stats describes the table.
func (t *Table) stats() *viewspb.TableStats {
	s := &viewspb.TableStats{Group: t.c.Group, Topic: t.c.Topic, Reason: t.NotReady()}
	s.Ready = s.Reason == ""
	s.Changes, s.Watchers = t.feed.counts()
	r := t.replica()
	if r == nil {
		return s
	}
	for i, p := range r.parts {
		p := p.state()
		s.Partitions = append(s.Partitions, &viewspb.PartitionStats{
			Partition: int32(i), Position: p.position, End: p.end, Lag: p.lag(), Recovered: p.recovered,
		})
		if p.store != nil {
			s.Bytes += p.store.Size()
		}
	}
	s.Freshness = freshnessOf(r.freshness())
	return s
}
