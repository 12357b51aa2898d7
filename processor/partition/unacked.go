package partition

import (
	"context"
	"sync"
)

// The reply messages of one call that Kafka has not acknowledged yet. At either bound nothing more is read from the service.
const (
	maxUnacked      = 64
	maxUnackedBytes = 1 << 20 // may be exceeded by one message
)

// unacked counts them. One goroutine takes and waits; any gives.
type unacked struct {
	freed chan struct{} // holds one: look again

	mu       sync.Mutex
	messages int
	bytes    int
}

func newUnacked() *unacked { return &unacked{freed: make(chan struct{}, 1)} }

// take counts a message once there is room for it.
func (u *unacked) take(ctx context.Context, bytes int) error {
	if err := u.wait(ctx, func() bool { return u.messages < maxUnacked && u.bytes < maxUnackedBytes }); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.messages++
	u.bytes += bytes
	return nil
}

// give takes a message off.
func (u *unacked) give(bytes int) {
	u.mu.Lock()
	u.messages--
	u.bytes -= bytes
	u.mu.Unlock()
	select {
	case u.freed <- struct{}{}:
	default: // it will look anyway
	}
}

// none waits until all are acknowledged.
func (u *unacked) none(ctx context.Context) error {
	return u.wait(ctx, func() bool { return u.messages == 0 })
}

func (u *unacked) wait(ctx context.Context, until func() bool) error {
	for {
		u.mu.Lock()
		there := until()
		u.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-u.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
