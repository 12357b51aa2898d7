package consumergroup

import (
	"encoding/binary"
	"fmt"
)

// maxBatch is how many deliveries a callback of the handler takes at most, so that it stays short, and how many records may wait for one.
const maxBatch = 64

// Batch is what the handler gets in one callback: what is ready at a claim, one delivery after the other. Only the goroutine of the
// callback uses it.
type Batch struct {
	claim *claim
	taken int
	over  bool
}

// Next is the next delivery: of what was injected as long as there is some, then a record. What becomes ready during the callback belongs to it. nil
// is the end of the batch: nothing is ready, it has its full length, or the claim delivers nothing any more. Only behind that end the
// claim causes another callback; a handler that stops before, because it ends, leaves the rest undelivered.
func (b *Batch) Next() *Delivery {
	c := b.claim
	if b.over || b.taken == 0 && c.stalled() {
		return nil // the pump ends of itself
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.taken < maxBatch {
		if d := c.takeReady(); d != nil {
			b.taken++
			return d
		}
	}
	b.over = true
	c.called = false
	if c.blocked || c.ready() {
		c.signal()
	}
	return nil
}

// Codec is the goka.Codec of the topics that the group consumes. Decode gives the *Batch of a message, or a nil *Batch for a message whose
// session is over; it never fails, because a decoding error would end the processor.
func (g *Group) Codec() Codec { return Codec{g} }

// Codec decodes the messages of one Group.
type Codec struct{ group *Group }

// Decode implements goka.Codec.
func (c Codec) Decode(token []byte) (any, error) {
	if len(token) != tokenSize {
		return (*Batch)(nil), nil
	}
	claim := c.group.claim(binary.BigEndian.Uint64(token))
	if claim == nil {
		return (*Batch)(nil), nil
	}
	return &Batch{claim: claim}, nil
}

// Encode implements goka.Codec. Deliveries are only ever read: it always fails.
func (c Codec) Encode(any) ([]byte, error) {
	return nil, fmt.Errorf("consumergroup: a delivery cannot be written to a topic")
}

// A token is the value of all messages of a claim: its id.
const tokenSize = 8

func tokenOf(claim uint64) []byte { return binary.BigEndian.AppendUint64(nil, claim) }

// queue has deliveries in the order in which they came. The zero value is empty.
type queue struct {
	deliveries []*Delivery // from head on
	head       int
}

func (q *queue) len() int { return len(q.deliveries) - q.head }

func (q *queue) push(d *Delivery) {
	// Move what is left to the front when that frees at least half, so that each is moved once on average.
	if q.head > len(q.deliveries)/2 {
		n := copy(q.deliveries, q.deliveries[q.head:])
		clear(q.deliveries[n:])
		q.deliveries, q.head = q.deliveries[:n], 0
	}
	q.deliveries = append(q.deliveries, d)
}

// pop is nil where there is none.
func (q *queue) pop() *Delivery {
	if q.len() == 0 {
		return nil
	}
	d := q.deliveries[q.head]
	q.deliveries[q.head] = nil
	q.head++
	return d
}
