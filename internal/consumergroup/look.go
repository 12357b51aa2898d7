package consumergroup

import (
	"cmp"
	"slices"
)

// ClaimState is what a claim is about at a moment.
type ClaimState struct {
	Topic       string
	Partition   int32
	Lag         int64 // offsets up to the end of the partition that are not read yet
	Uncommitted int   // records from the first unfinished one to the last one read
	Held        int   // unfinished records
	HeldBytes   int   // of their keys, values and headers
}

// Claims are the claims of the current session, in the order of their topics and partitions.
func (g *Group) Claims() []ClaimState {
	g.mu.RLock()
	claims := make([]*claim, 0, len(g.claims))
	for _, c := range g.claims {
		claims = append(claims, c)
	}
	g.mu.RUnlock()
	states := make([]ClaimState, len(claims))
	for i, c := range claims {
		states[i] = c.look()
	}
	slices.SortFunc(states, func(a, b ClaimState) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return states
}

func (c *claim) look() ClaimState {
	end := c.HighWaterMarkOffset() // stands still while the claim is not read
	c.mu.Lock()
	defer c.mu.Unlock()
	lag := max(0, max(end, c.end)-c.next)
	if c.next < 0 {
		lag = 0 // it has not begun
	}
	return ClaimState{
		Topic: c.Topic(), Partition: c.Partition(), Lag: lag,
		Uncommitted: c.window.len(), Held: c.records, HeldBytes: c.bytes,
	}
}
