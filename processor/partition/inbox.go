package partition

import (
	"context"
	"io"
	"sync"

	"kafkagrpc/internal/consumergroup"
)

// inbox takes the request messages of a stream from the partition's goroutine to the one that writes them to the service.
// It has no bound of its own: each message in it holds its record, so that the bounds of what is in flight count, and
// a slow service makes the partition pause.
type inbox struct {
	wake chan struct{} // holds one: look again

	mu     sync.Mutex
	queue  []queued // not yet taken
	taken  *consumergroup.Hold
	ended  bool // nothing follows
	closed bool // nobody takes anything any more
}

type queued struct {
	message []byte
	hold    *consumergroup.Hold // of its record; nil: another one keeps it
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// push adds a message. Its record is finished when the next one is taken, or nothing is any more.
func (b *inbox) push(message []byte, hold *consumergroup.Hold) {
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.queue = append(b.queue, queued{message, hold})
	}
	b.mu.Unlock()
	if closed {
		release(hold)
		return
	}
	b.signal()
}

// end says that nothing follows.
func (b *inbox) end() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// next is grpcout.Stream's: that it is called means that the message before was written.
func (b *inbox) next(ctx context.Context) ([]byte, error) {
	for {
		b.mu.Lock()
		written := b.taken
		b.taken = nil
		if len(b.queue) > 0 {
			first := b.queue[0]
			b.queue[0] = queued{}
			if b.queue = b.queue[1:]; len(b.queue) == 0 {
				b.queue = nil
			}
			b.taken = first.hold
			b.mu.Unlock()
			release(written)
			return first.message, nil
		}
		ended := b.ended
		b.mu.Unlock()
		release(written)
		if ended {
			return nil, io.EOF
		}
		select {
		case <-b.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// close finishes the records of all messages: the call has ended.
func (b *inbox) close() {
	b.mu.Lock()
	left, taken := b.queue, b.taken
	b.queue, b.taken, b.closed = nil, nil, true
	b.mu.Unlock()
	release(taken)
	for _, q := range left {
		release(q.hold)
	}
}

func release(h *consumergroup.Hold) {
	if h != nil {
		h.Release()
	}
}
