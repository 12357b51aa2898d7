package processor

import (
	"maps"
	"slices"
	"time"

	"kafkagrpc/internal/telemetry"
)

// look is what the metrics tell of the group. It does not wait.
func (p *Processor) look() telemetry.Group {
	state := p.State()
	g := telemetry.Group{Ready: state.Ready, Recovering: state.Recovering, Recovered: state.Read, ToRecover: state.Total}
	p.mu.RLock()
	group := p.group
	parts := slices.Collect(maps.Values(p.parts))
	stores := maps.Clone(p.stores)
	p.mu.RUnlock()
	for s, rows := range stores {
		g.Tables = append(g.Tables, telemetry.Table{Partition: s.Partition, Rows: rows.Load(), Bytes: s.Size()})
	}
	now := time.Now()
	for _, part := range parts {
		l := part.Load()
		g.InFlight += l.Calls
		if l.Calls > 0 {
			g.Oldest = max(g.Oldest, now.Sub(l.Oldest))
		}
		g.Parked += l.Parked
		g.Queued += l.Queued
		g.Streams += l.Streams
		g.Waiting += l.Waiting
		if !l.OldestWaiting.IsZero() {
			g.OldestWaiting = max(g.OldestWaiting, now.Sub(l.OldestWaiting))
		}
	}
	if group != nil {
		for _, c := range group.Claims() {
			g.Claims = append(g.Claims, telemetry.Claim{
				Topic: c.Topic, Partition: c.Partition, Lag: c.Lag, Uncommitted: c.Uncommitted, Held: c.Held, HeldBytes: c.HeldBytes,
			})
		}
	}
	for t, open := range p.caller.Open() {
		g.Targets = append(g.Targets, t.Address)
		if open {
			g.OpenBreakers = append(g.OpenBreakers, t.Address)
		}
	}
	g.Standby = p.standbyLag()
	return g
}
