package consumergroup

import (
	"cmp"
	"slices"
)

// ClaimState is what a claim is about at a moment.
type ClaimState struct {
	Topic       string
	Partition   int32
	Lag         int64 // records that are not read yet, as of the last fetch
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
	end := c.HighWaterMarkOffset() // 0 before the first fetch
	c.mu.Lock()
	defer c.mu.Unlock()
	return ClaimState{
		Topic: c.Topic(), Partition: c.Partition(), Lag: max(0, end-max(0, c.next)),
		Uncommitted: c.window.len(), Held: c.records, HeldBytes: c.bytes,
	}
}
