package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/restart"
	"kafkagrpc/wire"
)

// groupClaim is a partition in a session, as a sarama.ConsumerGroupClaim whose records come in batches.
//
// Nothing is fetched for it, for it alone, while aheadBytes wait to be taken. What is read ahead is that, what is being given, and what franz-go has
// fetched at the same time.
type groupClaim struct {
	session *groupSession
	at      partition
	initial int64
	newest  atomic.Int64 // the end of the partition
	records chan []wire.Record
	ctx     context.Context
	end     context.CancelFunc

	filled chan struct{} // there is another batch

	mu      sync.Mutex
	batches []batch
	waiting int  // bytes of batches
	full    bool // so that it must not be fetched for it
	held    bool // by Pause
}

// batch is what was fetched at once, or why nothing could be.
type batch struct {
	records []*kgo.Record
	bytes   int
	err     error
}

const (
	// aheadBytes may wait at a claim. franz-go throws away what it has fetched of a partition that is paused, so that it is not done for little.
	aheadBytes = fetchPartitionBytes
	// messageOverhead is about what a message takes besides its key and its value.
	messageOverhead = 512
)

func newGroupClaim(s *groupSession, at partition, offset int64) *groupClaim {
	c := &groupClaim{session: s, at: at, initial: offset, records: make(chan []wire.Record), filled: make(chan struct{}, 1)}
	c.ctx, c.end = context.WithCancel(s.ctx)
	return c
}

// Topic implements sarama.ConsumerGroupClaim.
func (c *groupClaim) Topic() string { return c.at.topic }

// Partition implements sarama.ConsumerGroupClaim.
func (c *groupClaim) Partition() int32 { return c.at.id }

// InitialOffset implements sarama.ConsumerGroupClaim.
func (c *groupClaim) InitialOffset() int64 { return c.initial }

// HighWaterMarkOffset implements sarama.ConsumerGroupClaim. It is as of the last fetch that brought something.
func (c *groupClaim) HighWaterMarkOffset() int64 { return c.newest.Load() }

// Messages implements sarama.ConsumerGroupClaim, and is not to be called: all comes in Records.
func (c *groupClaim) Messages() <-chan *sarama.ConsumerMessage {
	panic("a claim of kafka.Group gives Records, not Messages")
}

// Records are batches of at most slab records, in the order of their offsets; closed when the claim ends.
func (c *groupClaim) Records() <-chan []wire.Record { return c.records }

// take takes what was fetched. It does not wait.
func (c *groupClaim) take(f *kgo.FetchPartition) {
	if f.HighWatermark > 0 {
		c.newest.Store(f.HighWatermark)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	if len(f.Records) > 0 {
		b := batch{records: f.Records}
		for _, r := range f.Records {
			b.bytes += len(r.Key) + len(r.Value) + messageOverhead
		}
		c.waiting += b.bytes
		c.batches = append(c.batches, b)
	}
	if f.Err != nil {
		c.batches = append(c.batches, batch{err: f.Err})
	}
	// What fails would be fetched again at once.
	c.fill(c.full || f.Err != nil || c.waiting >= aheadBytes)
	select {
	case c.filled <- struct{}{}:
	default:
	}
}

// fill says whether there is room for more. The caller holds c.mu.
func (c *groupClaim) fill(full bool) {
	if c.full != full {
		c.full = full
		c.pause()
	}
}

// pause lets franz-go fetch for the claim, or not. The caller holds c.mu.
func (c *groupClaim) pause() {
	only := map[string][]int32{c.at.topic: {c.at.id}}
	if c.full || c.held {
		c.session.group.client.PauseFetchPartitions(only)
	} else {
		c.session.group.client.ResumeFetchPartitions(only)
	}
}

func (c *groupClaim) hold(held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != held && c.ctx.Err() == nil {
		c.held = held
		c.pause()
	}
}

// next waits for a batch; false when the claim has ended.
func (c *groupClaim) next() (batch, bool) {
	for {
		c.mu.Lock()
		if len(c.batches) > 0 {
			b := c.batches[0]
			c.batches = slices.Delete(c.batches, 0, 1)
			if c.waiting -= b.bytes; len(c.batches) == 0 && b.err == nil {
				c.fill(false) // while that is given
			}
			c.mu.Unlock()
			return b, true
		}
		c.fill(false)
		c.mu.Unlock()
		select {
		case <-c.filled:
		case <-c.ctx.Done():
			return batch{}, false
		}
	}
}

// feed delivers what was fetched until the claim ends.
func (c *groupClaim) feed() {
	defer c.close()
	for b, ok := c.next(); ok && c.ctx.Err() == nil; b, ok = c.next() {
		if b.err != nil && !c.survives(b.err) {
			return
		}
		for records := range slices.Chunk(b.records, slab) {
			select {
			case c.records <- recordsOf(records):
			case <-c.ctx.Done():
				return
			}
		}
	}
}

// survives rests after a fetch that failed, and reports whether there is hope.
func (c *groupClaim) survives(err error) bool {
	c.session.group.tell(c.at.topic, c.at.id, saramaError(err))
	// The next session finds out where to go on.
	if _, lost := errors.AsType[*kgo.ErrDataLoss](err); lost || errors.Is(err, kerr.OffsetOutOfRange) {
		return false
	}
	if large, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
		c.session.group.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.at.topic: {c.at.id: {Epoch: -1, Offset: large.NextOffset}}})
	}
	return restart.Pause(c.ctx, tailRest)
}

// close ends the claim. franz-go remembers who is paused, for the next session, too.
func (c *groupClaim) close() {
	c.end()
	close(c.records)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full || c.held {
		c.full, c.held = false, false
		c.pause()
	}
	c.batches = nil
}

// slab is how many records are made at once. One that is kept for long keeps the others, too.
const slab = 64

// recordsOf is recordOf for those that were fetched together.
func recordsOf(fetched []*kgo.Record) []wire.Record {
	records := make([]wire.Record, len(fetched))
	headers := 0
	for _, f := range fetched {
		headers += len(f.Headers)
	}
	all := make([]wire.Header, headers)
	for i, f := range fetched {
		records[i], all = recordWith(f, all[:len(f.Headers):len(f.Headers)]), all[len(f.Headers):]
	}
	return records
}
