package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// troubles are why brokers could not be used lately, which franz-go does not say of a record that it gives up.
type troubles struct {
	mu   sync.Mutex
	last error
	at   time.Time
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (t *troubles) OnBrokerConnect(broker kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	t.add(broker, err)
}

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (t *troubles) OnBrokerWrite(broker kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	t.add(broker, err)
}

// OnBrokerRead implements kgo.HookBrokerRead.
func (t *troubles) OnBrokerRead(broker kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	t.add(broker, err)
}

func (t *troubles) add(broker kgo.BrokerMetadata, err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	if silent, ok := errors.AsType[*silentError](err); ok {
		err = silent // franz-go guesses that it is a mistake in the configuration
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.at = fmt.Errorf("broker %s: %w", net.JoinHostPort(broker.Host, fmt.Sprint(broker.Port)), err), time.Now()
}

// since is why there was no answer to what was sent then: the last trouble, or silence.
func (t *troubles) since(sent time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	waited := time.Since(sent).Round(time.Second)
	if t.at.Before(sent) {
		return fmt.Errorf("not acknowledged within %v", waited)
	}
	return fmt.Errorf("not acknowledged within %v: %w", waited, t.last)
}
