package views

import "kafkagrpc/views/viewspb"

// stats describes the table.
func (t *Table) stats() *viewspb.TableStats {
	s := &viewspb.TableStats{Group: t.c.Group, Topic: t.c.Topic, Reason: t.NotReady()}
	s.Ready = s.Reason == ""
	t.feed.mu.Lock()
	s.Changes, s.Watchers = t.feed.total, int32(t.feed.watchers)
	t.feed.mu.Unlock()
	t.mu.RLock()
	r := t.current
	t.mu.RUnlock()
	if r == nil {
		return s
	}
	for i, p := range r.parts {
		p.mu.RLock()
		s.Partitions = append(s.Partitions, &viewspb.PartitionStats{
			Partition: int32(i), Position: p.position, End: p.end, Lag: max(0, p.end-p.position), Recovered: p.recovered,
		})
		if p.store != nil {
			s.Bytes += p.store.Size()
		}
		p.mu.RUnlock()
	}
	s.Freshness = freshnessOf(r.freshness())
	return s
}
