package processor

import (
	"context"
	"sync/atomic"
	"time"

	"kafkagrpc/internal/restart"
	"kafkagrpc/internal/tablestore"
)

// LevelDB does not know how many rows it has, and asking for each row that is written whether it is new would make every
// call and every recovery pay for a number. So they are counted beside the work, at the partition's owner as at a copy.

const (
	// countStep is how many rows are counted before a rest: about a millisecond.
	countStep = 1000
	// countRest is how long the counting rests after a step, in terms of what the step took.
	countRest = 3
	// countInterval is how long it rests at least when all are counted, and countShare in terms of what that took: it takes
	// a hundredth of a core at most in the long run, however large the table is.
	countInterval = time.Minute
	countShare    = 25
)

// count counts the rows of a store again and again until ctx ends.
func (p *Processor) count(ctx context.Context, s *tablestore.Store, rows *atomic.Int64) {
	for {
		begun := time.Now()
		n, step := int64(0), begun
		err := s.Keys(func([]byte, int64) bool {
			if n++; n%countStep != 0 {
				return true
			}
			going := restart.Pause(ctx, countRest*time.Since(step))
			step = time.Now()
			return going
		})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.config.Log.Error("the rows of the table were not counted", "partition", s.Partition, "error", err)
		} else {
			rows.Store(n)
		}
		if !restart.Pause(ctx, max(min(countInterval, p.config.SweepInterval), countShare*time.Since(begun))) {
			return
		}
	}
}
