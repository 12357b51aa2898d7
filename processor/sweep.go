package processor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/protobuf/encoding/protowire"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor/rowpb"
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

// expired is injected under a key whose row has expired. The last one of a step carries it.
type expired struct{ step chan struct{} }

// swept is injected when the removal of the last row of a step is acknowledged.
type swept struct{ step chan struct{} }

// tend sweeps the store of a partition and counts its rows now and then once it is recovered, until ctx ends.
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
	var counting sync.WaitGroup
	counting.Go(func() { p.count(ctx, s, rows) })
	defer counting.Wait()
	sweep := time.NewTimer(p.sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			sweep.Reset(max(p.sweepInterval, time.Until(p.sweep(ctx, group, s))))
		}
	}
}

// sweep removes the rows that have expired by now, and answers when the next one may have. A standby copy is left to
// the partition's owner.
func (p *Processor) sweep(ctx context.Context, group *consumergroup.Group, s *tablestore.Store) (next time.Time) {
	begun := time.Now()
	next = begun.Add(p.remote.Expiry)
	if p.partition(s.Partition) == nil {
		return begun
	}
	removed := 0
	step := make([]string, 0, sweepStep)
	remove := func() bool {
		begun, done := time.Now(), make(chan struct{})
		for i, key := range step {
			payload := expired{}
			if i == len(step)-1 {
				payload.step = done
			}
			if !group.Inject(p.remote.Loop, s.Partition, key, payload) {
				return false
			}
		}
		select {
		case <-done:
			removed += len(step)
			step = step[:0]
		case <-ctx.Done():
			return false
		}
		select {
		case <-time.After(sweepRest * time.Since(begun)):
			return true
		case <-ctx.Done():
			return false
		}
	}
	whole := true
	err := s.Each(func(key, row []byte) bool {
		switch ms := expiryOf(row); {
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
		p.log.Error("the table was not swept", "partition", s.Partition, "error", err)
	}
	if whole && len(step) > 0 {
		whole = remove()
	}
	if !whole {
		next = begun
	}
	if removed > 0 {
		p.log.Debug("expired rows were removed", "partition", s.Partition, "rows", removed, "took", time.Since(begun))
	}
	return next
}

// expire removes a row that the sweep found, unless it has been written again since, or is about to be.
func (p *Processor) expire(ctx goka.Context, d *consumergroup.Delivery, part *partition, e expired) {
	row, _ := ctx.Value().(*rowpb.Row)
	if row != nil && row.ExpiresMs != 0 && row.ExpiresMs <= time.Now().UnixMilli() && part.calls[ctx.Key()] == nil {
		ctx.Delete()
	}
	if e.step != nil {
		d.Then(ctx.Key(), swept(e))
	}
}

var expiresField = (*rowpb.Row)(nil).ProtoReflect().Descriptor().Fields().ByName("expires_ms").Number()

// expiryOf reads only the expiry of an encoded row, in Unix milliseconds; 0 when there is none. A row may have
// messages of a megabyte, and most rows of a sweep are only looked at.
func expiryOf(row []byte) (ms int64) {
	for len(row) > 0 {
		field, kind, n := protowire.ConsumeTag(row)
		if n < 0 {
			return 0
		}
		row = row[n:]
		if n = protowire.ConsumeFieldValue(field, kind, row); n < 0 {
			return 0
		}
		if field == expiresField && kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(row)
			ms = int64(v)
		}
		row = row[n:]
	}
	return ms
}
