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
)

// groupClaim is a partition in a session, as a sarama.ConsumerGroupClaim.
//
// Nothing is fetched for it, for it alone, while aheadBytes wait to be taken. What is read ahead is that, what is being given, and what franz-go has
// fetched at the same time.
type groupClaim struct {
	session  *groupSession
	at       partition
	initial  int64
	newest   atomic.Int64 // the end of the partition
	messages chan *sarama.ConsumerMessage
	ctx      context.Context
	end      context.CancelFunc

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
	c := &groupClaim{session: s, at: at, initial: offset, messages: make(chan *sarama.ConsumerMessage), filled: make(chan struct{}, 1)}
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

// Messages implements sarama.ConsumerGroupClaim.
func (c *groupClaim) Messages() <-chan *sarama.ConsumerMessage { return c.messages }

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
			messages := messagesOf(records)
			for i := range messages {
				select {
				case c.messages <- &messages[i]:
				case <-c.ctx.Done():
					return
				}
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
	close(c.messages)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full || c.held {
		c.full, c.held = false, false
		c.pause()
	}
	c.batches = nil
}

// slab is how many messages are made at once. One that is kept for long keeps the others, too.
const slab = 64

// messagesOf are fetched records as sarama's messages. Their bytes are shared, but for the names of headers. These mostly are the names
// of the record before, too.
func messagesOf(records []*kgo.Record) []sarama.ConsumerMessage {
	messages := make([]sarama.ConsumerMessage, len(records))
	headers := 0
	for _, r := range records {
		headers += len(r.Headers)
	}
	all, pointers := make([]sarama.RecordHeader, 0, headers), make([]*sarama.RecordHeader, 0, headers)
	var before []*sarama.RecordHeader
	for i, r := range records {
		m := &messages[i]
		*m = sarama.ConsumerMessage{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
		first := len(pointers)
		for j, h := range r.Headers {
			var name []byte
			if j < len(before) && string(before[j].Key) == h.Key {
				name = before[j].Key
			} else {
				name = []byte(h.Key)
			}
			all = append(all, sarama.RecordHeader{Key: name, Value: h.Value})
			pointers = append(pointers, &all[len(all)-1])
		}
		if len(r.Headers) > 0 {
			m.Headers = pointers[first:len(pointers):len(pointers)]
			before = m.Headers
		}
	}
	return messages
}
