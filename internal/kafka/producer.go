package kafka

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/wire"
)

// ErrProducerClosed is what records end with that were sent after, or were waiting to be sent at, Close.
var ErrProducerClosed = errors.New("the Kafka producer is closed")

var errUnacknowledged = fmt.Errorf("not acknowledged before the end: %w", ErrProducerClosed)

// closeTimeout bounds how long Close waits for acknowledgements.
const closeTimeout = 10 * time.Second

// Producer writes records to any topics of a cluster. It is safe for concurrent use.
//
// Order: records that one goroutine sends to one partition are written in that order, also over retries, as long
// as none of them fails.
type Producer struct {
	client sarama.Client
	async  sarama.AsyncProducer
	limits *Limits

	// sending is held for reading while a record is handed to sarama, which panics on a record after its close.
	sending sync.RWMutex
	closed  bool          // guarded by sending
	closing chan struct{} // closed first, so that a Send that waits lets go of sending
	once    sync.Once
	err     error // of Close

	mu      sync.Mutex // guards pending
	pending map[*sarama.ProducerMessage]func(int64, error)

	dialer   *fenceDialer  // nil without a fence
	fenced   chan struct{} // closed once the fence has answered an error, which is in fenceErr then
	fenceErr error

	unwritten int // records that sarama gave up because of Close; deliver's until drained

	abandon chan struct{} // tells deliver to fail what is still pending
	failed  chan int      // deliver's answer: how many that were
	drained chan struct{} // closed when deliver is done
}

// NewProducer connects to the cluster. It fails within about 20 seconds when the cluster cannot be reached.
func NewProducer(c Cluster) (*Producer, error) { return NewFencedProducer(c, nil) }

// NewFencedProducer is NewProducer for records that must not be written any more once fence answers an error, which
// it then does for good. It is asked before each write to a connection, and every 100 ms, so it must be quick: also a
// record that was handed over long ago is not sent, or not sent again, but fails with that error, as do all later ones.
func NewFencedProducer(c Cluster, fence func() error) (*Producer, error) {
	p := &Producer{
		limits:  c.Limits,
		closing: make(chan struct{}),
		pending: map[*sarama.ProducerMessage]func(int64, error){},
		fenced:  make(chan struct{}),
		abandon: make(chan struct{}),
		failed:  make(chan int, 1),
		drained: make(chan struct{}),
	}
	config := c.ProducerConfig()
	if fence != nil {
		var once sync.Once
		p.dialer = newFenceDialer(func() error {
			err := fence()
			if err != nil {
				once.Do(func() {
					p.fenceErr = err
					close(p.fenced)
				})
			}
			return err
		})
		behind := c.dialer(usualPatience)
		behind.connect = p.dialer.connect
		config.Net.Proxy.Dialer = behind
	}
	client := &metadataClient{gone: make(map[string]time.Time)}
	config.Producer.Retry.BackoffFunc = client.backoff
	config.Producer.Retry.Max += restless
	config.Producer.Retry.Backoff = 0 // what other partitions rest when a connection has ended; not what backoff is for
	at := strings.Join(c.Brokers, ", ")
	found, err := connect(c.Brokers, config)
	if err != nil {
		return nil, fmt.Errorf("connecting a producer to Kafka at %s: %w", at, err)
	}
	client.Client = wary{found}
	p.client = client
	if p.async, err = sarama.NewAsyncProducerFromClient(client); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a producer on Kafka at %s: %w", at, err), client.Close())
	}
	go p.deliver()
	return p, nil
}

// connect waits for a cluster that is just starting, as config does not.
func connect(brokers []string, config *sarama.Config) (client sarama.Client, err error) {
	for begun := time.Now(); ; time.Sleep(metadataBackoff) {
		client, err = sarama.NewClient(brokers, config)
		if err == nil || !errors.Is(err, sarama.ErrOutOfBrokers) || time.Since(begun) >= producerMetadataTimeout {
			return client, err
		}
	}
}

// Send writes a record and returns before it is acknowledged; it waits only while too much is on its way already.
// r.Partition and r.Offset are ignored: the key decides, as wire.Partition says, and a record without a key goes
// anywhere. A nil Value becomes null, an empty one stays empty. The record's bytes must not change until done.
//
// done is called exactly once: with the offset when all in-sync replicas have the record (-1 where the broker
// does not tell it), or with an error. All callbacks run on one goroutine, so done must neither wait nor Send;
// only a record that Close, or a fence, was faster than, or that is too large, is answered on the caller's.
func (p *Producer) Send(r wire.Record, done func(offset int64, err error)) {
	p.SendPinned(r, nil, done)
}

// SendPinned is Send for one of the records that share a pin; nil is none.
func (p *Producer) SendPinned(r wire.Record, pin *wire.Pin, done func(offset int64, err error)) {
	size := Size(r)
	err := p.limits.Check(r.Topic, size)
	if err == nil && p.send(r, size, pin, done) {
		return
	}
	if err == nil {
		err = p.stopped()
	}
	if err == nil {
		err = ErrProducerClosed
	}
	done(-1, notProduced(ProducerMessage(r), unknownPartition, err))
}

// unknownPartition is that of a record before the partitioner has seen it.
const unknownPartition = -1

// maxNamedKey is how much of a record's key, in characters, its error has.
const maxNamedKey = 300

// notProduced is the error of a record. The key leads to the call: it is the correlation id, or that of a row.
func notProduced(m *sarama.ProducerMessage, partition int32, err error) error {
	where := fmt.Sprintf("topic %q", m.Topic)
	if partition != unknownPartition {
		where += fmt.Sprintf(", partition %d", partition)
	}
	if key, ok := m.Key.(sarama.ByteEncoder); ok {
		where += fmt.Sprintf(", key %.*q", maxNamedKey, []byte(key))
	}
	return fmt.Errorf("producing to %s: %w", where, err)
}

// stopped is the error of the fence, nil while it lets records through.
func (p *Producer) stopped() error {
	select {
	case <-p.fenced:
		return p.fenceErr
	default:
		return nil
	}
}

// send reports whether the record is on its way and done will be called by deliver.
func (p *Producer) send(r wire.Record, size int, pin *wire.Pin, done func(int64, error)) bool {
	m := ProducerMessage(r)
	m.Value = pad(r.Value, size, min(p.limits.Of(r.Topic), DefaultMaxRecordBytes))
	if pin != nil {
		m.Metadata = pin
	}
	m.Offset, m.Partition = -1, unknownPartition
	p.sending.RLock()
	defer p.sending.RUnlock()
	if p.closed {
		return false
	}
	// First: the answer may come before this goroutine runs again.
	p.mu.Lock()
	p.pending[m] = done
	p.mu.Unlock()
	if p.stopped() == nil { // asked again: what is pending now, deliver sees when it is fenced
		select {
		case p.async.Input() <- m:
			return true
		case <-p.closing:
		}
	}
	_, mine := p.take(m)
	return !mine
}

// deliver calls the callbacks. It ends when sarama has answered every record after Close.
func (p *Producer) deliver() {
	defer close(p.drained)
	successes, failures := p.async.Successes(), p.async.Errors()
	abandon, fenced := p.abandon, p.fenced
	var poll <-chan time.Time
	if p.dialer != nil {
		ticker := time.NewTicker(fencePoll)
		defer ticker.Stop()
		poll = ticker.C
	}
	for successes != nil || failures != nil {
		select {
		case m, ok := <-successes:
			if !ok {
				successes = nil
				continue
			}
			if done, ok := p.take(m); ok {
				done(m.Offset, nil)
			}
		case e, ok := <-failures:
			if !ok {
				failures = nil
				continue
			}
			err := e.Err
			if errors.Is(err, sarama.ErrMessageSizeTooLarge) {
				p.limits.Doubt()
			}
			if errors.Is(err, sarama.ErrShuttingDown) { // it must be sent again, which sarama does not do any more
				p.unwritten++
				err = errUnacknowledged
			}
			if done, ok := p.take(e.Msg); ok {
				done(-1, notProduced(e.Msg, e.Msg.Partition, err))
			}
		case <-poll:
			_ = p.dialer.fence() // its error closes fenced
		case <-fenced:
			fenced, poll = nil, nil
			p.dialer.cut()
			p.failPending(p.fenceErr) // sarama would try again for long
		case <-abandon:
			abandon = nil
			p.failed <- p.failPending(errUnacknowledged)
		}
	}
}

// failPending answers what is not answered yet, and says how much that was.
func (p *Producer) failPending(err error) int {
	p.mu.Lock()
	left := p.pending
	p.pending = map[*sarama.ProducerMessage]func(int64, error){}
	p.mu.Unlock()
	for m, done := range left {
		done(-1, notProduced(m, unknownPartition, err)) // sarama still has it, and may be about to choose one
	}
	return len(left)
}

func (p *Producer) take(m *sarama.ProducerMessage) (func(int64, error), bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done, ok := p.pending[m]
	delete(p.pending, m)
	return done, ok
}

// Close waits until everything that was sent is acknowledged or has failed, but at most about 10 seconds: what is
// left then fails, and Close says how many that were. All callbacks were called when it returns. Close may be
// called again, and answers the same.
func (p *Producer) Close() error {
	p.once.Do(func() { p.err = p.close() })
	return p.err
}

func (p *Producer) close() error {
	close(p.closing)
	p.sending.Lock()
	p.closed = true
	p.sending.Unlock()

	p.async.AsyncClose()
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-p.drained:
		return errors.Join(unacknowledged(p.unwritten), p.client.Close())
	case <-p.fenced: // nothing can be acknowledged any more
	case <-timeout.C:
	}
	// Without its client sarama gives up what it is retrying, at the latest when a search for the leader ends.
	// That is not waited for: deliver ends by itself then, and has nobody left to call.
	err := p.client.Close()
	close(p.abandon)
	select {
	case n := <-p.failed:
		return errors.Join(unacknowledged(n), err)
	case <-p.drained:
		return err
	}
}

// unacknowledged is the error of a Close that n records were lost in.
func unacknowledged(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("closing the Kafka producer: %d records were not acknowledged within %v", n, closeTimeout)
}
