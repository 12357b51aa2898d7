package views

import (
	"context"
	"slices"

	"kafkagrpc/views/viewspb"
)

// stats describes the table, of which only is a part unless it is nil.
func (t *Table) stats(_ context.Context, only []int32) *viewspb.TableStats {
	s := &viewspb.TableStats{Group: t.c.Group, Topic: t.c.Topic, Reason: t.NotReady()}
	s.Ready = s.Reason == ""
	s.Changes, s.Watchers = t.feed.counts()
	r := t.replica()
	if r == nil {
		return s
	}
	for i, p := range r.parts {
		if only != nil && !slices.Contains(only, int32(i)) {
			continue
		}
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

// stats describes the table as this instance and those that work on the others of its partitions know it.
func (l *Local) stats(ctx context.Context, only []int32) *viewspb.TableStats {
	mine, others := l.shares(only)
	s := l.ownStats(mine)
	s.Watchers = l.tail.watchers()
	if len(others) > 0 {
		answers, err := ask(ctx, l.peers, others, func(ctx context.Context, c viewspb.ViewsClient, share []int32) (*viewspb.TableStats, error) {
			response, err := c.Stats(ctx, forwardedTo(&viewspb.StatsRequest{}, share))
			if err != nil {
				return nil, err
			}
			for _, t := range response.Msg.Tables {
				if t.Group == l.c.Group && t.Ready {
					return t, nil
				} else if t.Group == l.c.Group {
					return nil, &NotReadyError{t.Reason}
				}
			}
			return nil, &NotReadyError{"it knows no group " + l.c.Group}
		})
		if err != nil && s.Ready {
			s.Ready, s.Reason = false, err.Error()
		}
		for _, t := range answers {
			s.Partitions = append(s.Partitions, t.Partitions...)
			s.Bytes, s.Changes = s.Bytes+t.Bytes, s.Changes+t.Changes
		}
	}
	slices.SortFunc(s.Partitions, func(a, b *viewspb.PartitionStats) int { return int(a.Partition - b.Partition) })
	return s
}

// ownStats describe partitions that this instance works on, of which nobody else writes.
func (l *Local) ownStats(partitions []int32) *viewspb.TableStats {
	s := &viewspb.TableStats{Group: l.c.Group, Topic: l.c.Topic}
	fresh, stores, err := l.own(partitions)
	if err != nil {
		s.Reason = reason(err)
		return s
	}
	s.Ready, s.Freshness = true, freshnessOf(fresh)
	for _, store := range stores {
		s.Partitions = append(s.Partitions, &viewspb.PartitionStats{
			Partition: store.Partition, Position: store.Next(), End: store.Next(), Recovered: true,
		})
		s.Bytes += store.Size()
		s.Changes += store.Next()
	}
	return s
}
