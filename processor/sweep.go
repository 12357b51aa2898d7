package processor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/restart"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor/partition"
)

// An expired row answers nothing, so there is no hurry to remove it. A sweep reads the local store beside the
// partition's goroutine, which only gets the keys of expired rows, a step at a time, among its requests. The
// next step follows some time after the changelog has acknowledged the one before.

const (
	// sweepStep is how many removals stand before a request at most: about a millisecond.
	sweepStep = 100
	// sweepRest is how long a sweep rests after a step, in terms of what the step took: it gets at most a quarter of what
	// the partition and its broker can do.
	sweepRest = 3
)

// By default a table is swept often enough to have few expired rows, and seldom enough for the reading to cost little.
const (
	sweepsPerExpiry = 24
	minSweep        = time.Minute
	maxSweep        = time.Hour
)

// tend sweeps the store of a partition, counts its rows now and then, and has those that wait retried, once it is recovered, until ctx ends.
func (p *Processor) tend(ctx context.Context, group *consumergroup.Group, s *tablestore.Store) {
	rows := new(atomic.Int64)
	rows.Store(-1)
	p.mu.Lock()
	p.stores[s] = rows
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.stores, s)
	}()
	select {
	case <-s.Recovered():
	case <-ctx.Done():
		return
	}
	var beside sync.WaitGroup
	beside.Go(func() { p.count(ctx, s, rows) })
	beside.Go(func() { p.retryWaiting(ctx, group, s) })
	defer beside.Wait()
	sweep := time.NewTimer(p.config.SweepInterval)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			sweep.Reset(max(p.config.SweepInterval, time.Until(p.sweep(ctx, group, s))))
		}
	}
}

// sweep removes the rows that have expired by now, and answers when the next one may have. A standby copy is left to
// the partition's owner.
func (p *Processor) sweep(ctx context.Context, group *consumergroup.Group, s *tablestore.Store) (next time.Time) {
	begun := time.Now()
	next = begun.Add(p.remote.Load().Expiry)
	if p.partition(s.Partition) == nil {
		return begun
	}
	removed := 0
	step := make([]string, 0, sweepStep)
	remove := func() bool {
		begun := time.Now()
		done, ok := partition.Expire(step, func(key string, payload any) bool {
			return group.Inject(p.config.Remote.Loop, s.Partition, key, payload)
		})
		if !ok {
			return false
		}
		select {
		case <-done:
			removed += len(step)
			step = step[:0]
		case <-ctx.Done():
			return false
		}
		return restart.Pause(ctx, sweepRest*time.Since(begun))
	}
	whole := true
	err := s.Keys(func(key []byte, ms int64) bool {
		switch {
		case ctx.Err() != nil:
			whole = false
		case ms == 0: // unreadable: not known to be expired
		case begun.UnixMilli() < ms:
			if at := time.UnixMilli(ms); at.Before(next) {
				next = at
			}
		default:
			if step = append(step, string(key)); len(step) == sweepStep {
				whole = remove()
			}
		}
		return whole
	})
	if err != nil {
		p.config.Log.Error("the table was not swept", "partition", s.Partition, "error", err)
	}
	if whole && len(step) > 0 {
		whole = remove()
	}
	if !whole {
		next = begun
	}
	if removed > 0 {
		p.config.Log.Debug("expired rows were removed", "partition", s.Partition, "rows", removed, "took", time.Since(begun))
	}
	return next
}
