package consumergroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// Offsets asks the broker about partitions. Each method must have a deadline.
type Offsets interface {
	// Start is the offset of the first record that a partition may still have.
	Start(topic string, partition int32) (int64, error)

	// Ends are the offsets of the next records that are written to partitions. An error is about those that are not among them.
	Ends(partitions map[string][]int32) (map[string]map[int32]int64, error)

	// Next is an offset below which there is no record for a claim from the given one on; the same where the next one may be
	// there. open says that a transaction is open there, and is what the claim waits for.
	Next(topic string, partition int32, from int64) (next int64, open bool, err error)
}

// Gap is a part of a partition that was not handled and cannot be read any more.
type Gap struct {
	Topic     string
	Partition int32
	From, To  int64 // offsets; To is where the claim goes on
	Unread    int64 // how many of the offsets between them were not finished
	Other     bool  // From is above the end of the partition, which is another one, or has lost records
}

// lookInterval is how often the group looks after its claims.
const lookInterval = time.Second

// openInterval is how long a claim waits behind an open transaction until the log says so, again and again.
const openInterval = 30 * time.Second

// lookedAfter looks after the claims until stop is called, which waits for the question that is on its way.
//
// Claims tell records only. The markers at the ends of transactions, what was written in aborted ones and what compaction has
// removed have offsets, too; behind the last record nothing would ever commit those, and the group would seem to lag for
// good. So where a claim waits, all that it was given is finished, and its partition has more offsets nevertheless, the
// broker is asked for what is there, and what is none of a claim's records is passed.
func (g *Group) lookedAfter(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // claims are drained after ctx has ended
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(lookInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-g.claimed:
			}
			if err := g.lookAfter(ctx); err != nil {
				g.options.Log.Debug("what the partitions hold is not known", "error", err)
			}
		}
	})
	return func() {
		cancel()
		looking.Wait()
	}
}

// lookAfter looks after the claims once.
func (g *Group) lookAfter(ctx context.Context) error {
	g.mu.RLock()
	claims := slices.Collect(maps.Values(g.claims))
	g.mu.RUnlock()
	if len(claims) == 0 {
		return nil
	}
	partitions := map[string][]int32{}
	for _, c := range claims {
		partitions[c.Topic()] = append(partitions[c.Topic()], c.Partition())
	}
	ends, err := g.options.Offsets.Ends(partitions)
	problems := []error{err}
	for _, c := range claims {
		end, known := ends[c.Topic()][c.Partition()]
		if !known || ctx.Err() != nil {
			continue
		}
		from, waits := c.waits(end)
		if !waits {
			continue
		}
		next, open, err := g.options.Offsets.Next(c.Topic(), c.Partition(), from)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		c.pass(from, next)
		c.tellOpen(next, open)
	}
	return errors.Join(problems...)
}

// waits takes where the partition ends, and reports whether the claim waits at an offset below: since the last
// question it was given nothing, and all before is finished.
func (c *claim) waits(end int64) (at int64, waits bool) {
	end = max(end, c.HighWaterMarkOffset())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = end
	waits = !c.closed && c.next >= 0 && c.next < end && c.next == c.waited && c.window.len() == 0
	c.waited = c.next
	if !waits {
		c.openSince = time.Time{}
	}
	return c.next, waits
}

// pass passes offsets of no record for the claim.
func (c *claim) pass(from, to int64) { c.commit(c.passed(from, to)) }

// passed is what is finished by that: nothing where the claim went on meanwhile.
func (c *claim) passed(from, to int64) prefix {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to <= from || c.next != from || c.window.len() > 0 {
		return prefix{}
	}
	c.next, c.waited = to, to
	c.change()
	return c.finished(to, true)
}

// tellOpen says in the log now and then that the claim waits for the end of a transaction, which its producer may have
// forgotten.
func (c *claim) tellOpen(at int64, open bool) {
	c.mu.Lock()
	now := time.Now()
	switch {
	case !open:
		c.openSince = time.Time{}
	case c.openSince.IsZero():
		c.openSince, c.openTold = now, now
	}
	tell := open && now.Sub(c.openTold) >= openInterval
	if tell {
		c.openTold = now
	}
	since, behind := c.openSince, c.end-at
	c.mu.Unlock()
	if tell {
		c.options.Log.Warn("records wait for the end of a producer's transaction: they are read when it is committed or aborted, by the producer or by its time-out",
			"topic", c.Topic(), "partition", c.Partition(), "offset", at, "waiting", behind, "for", now.Sub(since).Round(time.Second))
	}
}

// begin finds out where a claim begins that begins at no committed offset, and commits that. An error ends the session, and the
// next one tries again.
func (h *sessionHandler) begin(c *claim) error {
	o := h.group.options
	if o.Offsets == nil || c.InitialOffset() >= 0 {
		return nil
	}
	start, err := o.Offsets.Start(c.Topic(), c.Partition())
	if err != nil {
		return err
	}
	c.next = start
	var block *sarama.OffsetFetchResponseBlock
	if h.commits != nil {
		block = h.commits.GetBlock(c.Topic(), c.Partition())
	}
	if block != nil && block.Err == sarama.ErrNoError && block.Offset >= 0 && block.Offset != start {
		gap := Gap{Topic: c.Topic(), Partition: c.Partition(), From: block.Offset, To: start}
		if gap.Other = block.Offset > start; gap.Other {
			ends, err := o.Offsets.Ends(map[string][]int32{c.Topic(): {c.Partition()}})
			if err != nil {
				return err
			}
			if end, ok := ends[c.Topic()][c.Partition()]; !ok || block.Offset <= end {
				return fmt.Errorf("topic %s partition %d: the committed offset %d is in the log again, which ends at %d",
					c.Topic(), c.Partition(), block.Offset, end)
			}
		} else {
			gap.Unread = start - block.Offset - finishedWithin(block, start)
		}
		if o.Gone != nil {
			o.Gone(gap)
		}
	}
	if o.Transactions != nil {
		c.changed = true
		return nil
	}
	// The session takes an offset above its own by one of these, and one below, which else it would keep, by the other.
	c.session.MarkOffset(c.Topic(), c.Partition(), start, "")
	c.session.ResetOffset(c.Topic(), c.Partition(), start, "")
	c.session.Commit() // or the next session would find the same gap
	return nil
}

// finishedWithin is how many records between a committed offset and another one were finished all the same.
func finishedWithin(block *sarama.OffsetFetchResponseBlock, to int64) (n int64) {
	runs, err := decodeProgress(block.Metadata)
	if err != nil {
		return 0
	}
	for _, r := range runs {
		n += max(0, min(r.to, to)-max(r.from, block.Offset))
	}
	return n
}
