package consumergroup

import "time"

// Freeze makes it look as if the process had stood still for d until now.
func (g *Group) Freeze(d time.Duration) {
	before := g.freeze.note.Load().Add(-d)
	g.freeze.note.Store(&before)
}

// MaxBatch is how long a batch is at most.
const MaxBatch = maxBatch
