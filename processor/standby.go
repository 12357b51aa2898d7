package processor

import (
	"context"
	"time"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/restart"
	"kafkagrpc/internal/tablestore"
)

const (
	// lagInterval is how often Kafka is asked where the changelog ends that the standby copies follow.
	lagInterval = 5 * time.Second
	// maxLagAge is how long the answer is good for: while Kafka does not answer, nobody knows what a copy lacks.
	maxLagAge = 2 * lagInterval
)

// changelogEnd is the offset of the next record of a partition of the changelog, as of a moment.
type changelogEnd struct {
	offset int64
	at     time.Time
	copy   int64 // offset of the first record that the copy may lack
	passed int64 // the same, with what is none of the records that it is given
}

// standbyCopies are the copies that follow partitions of other instances.
func (p *Processor) standbyCopies() (copies []*tablestore.Store) {
	if !p.config.Remote.Processing.Standby {
		return nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for s := range p.stores {
		// Before it is recovered, the recovery tells what it lacks.
		if s.IsRecovered() && p.parts[s.Partition] == nil {
			copies = append(copies, s)
		}
	}
	return copies
}

// followEnds keeps up where the changelog of the standby copies ends, until ctx ends. What a copy reads does not tell: it is
// just when it reads nothing that it falls behind.
func (p *Processor) followEnds(ctx context.Context, reader *kafka.Reader) {
	for restart.Pause(ctx, lagInterval) {
		for _, s := range p.standbyCopies() {
			p.mu.RLock()
			before := p.ends[s.Partition]
			p.mu.RUnlock()
			end := changelogEnd{at: time.Now(), copy: s.Next()}
			end.passed = end.copy
			var err error
			end.offset, err = reader.End(p.config.Remote.Table, s.Partition)
			if err == nil && end.copy < end.offset && end.copy == before.copy {
				// It stands still: the rest may be the markers of transactions, or what aborted ones have written.
				end.passed, _, err = reader.Next(p.config.Remote.Table, s.Partition, max(before.passed, end.copy))
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				p.config.Log.Debug("the lag of the standby copies is not known", "topic", p.config.Remote.Table, "partition", s.Partition, "error", err)
				break
			}
			p.mu.Lock()
			p.ends[s.Partition] = end
			p.mu.Unlock()
		}
	}
}

// standbyLag is how many records of the changelog each standby copy lacks. Those of which it is not known are left out.
func (p *Processor) standbyLag() map[int32]int64 {
	lag := map[int32]int64{}
	for _, s := range p.standbyCopies() {
		p.mu.RLock()
		end := p.ends[s.Partition]
		p.mu.RUnlock()
		if time.Since(end.at) <= maxLagAge {
			lag[s.Partition] = max(0, end.offset-max(end.passed, s.Next()))
		}
	}
	return lag
}
