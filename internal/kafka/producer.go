package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/restart"
	"kafkagrpc/wire"
)

// ErrProducerClosed is what records end with that were sent after, or were waiting to be sent at, Close.
var ErrProducerClosed = errors.New("the Kafka producer is closed")

var errUnacknowledged = fmt.Errorf("not acknowledged before the end: %w", ErrProducerClosed)

const (
	// closeTimeout bounds how long Close waits for acknowledgements.
	closeTimeout = 10 * time.Second
	// mostUnderWay is how many bytes are sent and not answered before a Send waits.
	mostUnderWay = 64 << 20
	// sendingOverhead is what a record under way takes besides its bytes, or thereabouts.
	sendingOverhead = 512
)

// Producer writes records to any topics of a cluster. It is safe for concurrent use.
//
// Order: records that one goroutine sends to one partition are written in that order, also over retries, as long
// as none of them fails.
type Producer struct {
	cluster  Cluster
	troubles troubles
	ctx      context.Context // ends with the producer
	cancel   context.CancelFunc
	promise  func(*kgo.Record, error) // answer, made once

	dialer  *fenceDialer    // nil without a fence
	failing context.Context // ends once the fence has answered an error, or a transaction has failed
	failed  context.CancelCauseFunc

	transactions *transactions // nil: each record stands for itself

	answering sync.Mutex // held while a callback runs: each of the clients has a goroutine of its own for them

	mu      sync.Mutex          // guards what follows, and is not held while a client is called
	clients map[int]*kgo.Client // by what bounds their batches; nil when they are closed
	lanes   map[string]*lane    // by topic
	term    term
	bytes   int        // under way
	blocked int        // Sends that wait for room
	room    *sync.Cond // of mu
	left    int        // records that are not answered
	lost    int        // those of them that Close did not wait for any longer
	stopped bool       // nothing is taken in any more
	empty   chan struct{}

	behind chan struct{} // tells run that records wait in a lane that is free
	over   chan struct{} // tells run to end
	done   chan struct{} // run has ended
	once   sync.Once
	err    error // of Close
}

// NewProducer connects to the cluster. It fails within about 20 seconds when the cluster cannot be reached.
func NewProducer(c Cluster) (*Producer, error) { return NewFencedProducer(c, nil) }

// NewFencedProducer is NewProducer for records that must not be written any more once fence answers an error, which
// it then does for good. It is asked before each write to a connection, and every 100 ms, so it must be quick: also a
// record that was handed over long ago is not sent, or not sent again, but fails with that error, as do all later ones.
func NewFencedProducer(c Cluster, fence func() error) (*Producer, error) {
	return newProducer(c, fence, nil)
}

func newProducer(c Cluster, fence func() error, t *transactions) (*Producer, error) {
	p := &Producer{
		cluster:      c,
		transactions: t,
		clients:      map[int]*kgo.Client{},
		lanes:        map[string]*lane{},
		empty:        make(chan struct{}),
		behind:       make(chan struct{}, 1),
		over:         make(chan struct{}),
		done:         make(chan struct{}),
	}
	p.room = sync.NewCond(&p.mu)
	p.promise = p.answer
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.failing, p.failed = context.WithCancelCause(p.ctx)
	if fence != nil {
		p.dialer = newFenceDialer(func() error {
			err := fence()
			if err != nil {
				p.fail(err)
			}
			return err
		})
		p.cluster.connect = p.dialer.connect
	}
	if err := p.connect(); err != nil {
		p.closeClients()
		return nil, err
	}
	if t != nil {
		t.producer, t.client = p, p.clients[DefaultMaxRecordBytes]
		go t.run() // p.run waits for it
	}
	go p.run()
	return p, nil
}

// fail has all that is under way, and all that comes, end with an error.
func (p *Producer) fail(err error) { p.failed(err) }

// connect waits for a cluster that is just starting.
func (p *Producer) connect() error {
	at := strings.Join(p.cluster.Brokers, ", ")
	p.mu.Lock()
	client, err := p.client(DefaultMaxRecordBytes)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("connecting a producer to Kafka at %s: %w", at, err)
	}
	ctx, cancel := context.WithTimeout(p.ctx, producerPatience)
	defer cancel()
	var problem error
	for {
		err := client.Ping(ctx)
		if err == nil {
			// Who may not write at all is told now: franz-go asks once, and never again when it was refused.
			_, _, err = client.ProducerID(ctx)
		}
		if err == nil {
			return nil
		}
		if problem == nil || ctx.Err() == nil { // else it is the end of the time, and no cause
			problem = err
		}
		code, ok := errors.AsType[*kerr.Error](err)
		if ok && !code.Retriable || p.fence() != nil || !restart.Pause(ctx, metadataBackoff) {
			return fmt.Errorf("connecting a producer to Kafka at %s: %w", at, problem)
		}
	}
}

// Send writes a record and returns before it is acknowledged; it waits only while too much is on its way already.
// r.Partition and r.Offset are ignored: the key decides, as wire.Partition says, and a record without a key goes
// anywhere. A zero Timestamp becomes the time of sending. A nil Value becomes null, an empty one stays empty. The record's bytes
// must not change until done.
//
// done is called exactly once: with the offset when all in-sync replicas have the record (-1 where the broker
// does not tell it), or with an error. One callback runs at a time, and holds up the others, so done must neither wait nor Send;
// only a record that Close, or a fence, was faster than, or that is too large, is answered on the caller's goroutine.
func (p *Producer) Send(r wire.Record, done func(offset int64, err error)) {
	p.SendPinned(r, nil, done)
}

// SendPinned is Send for one of the records that share a pin; nil is none.
func (p *Producer) SendPinned(r wire.Record, pin *wire.Pin, done func(offset int64, err error)) {
	p.SendCommitted(r, pin, done, nil)
}

// SendCommitted is SendPinned for one who asks for the end of the transaction, too: committed is called after done, when that is committed, or with why
// it is not; never where done has had an error, nor without transactions. It must neither wait nor send. nil: nobody asks.
func (p *Producer) SendCommitted(r wire.Record, pin *wire.Pin, done func(offset int64, err error), committed func(error)) {
	s := newSending(r, pin, done)
	s.committed = committed
	if err := p.cluster.Limits.Check(r.Topic, s.size); err != nil {
		if err = s.failed(err); p.transactions != nil {
			p.fail(err) // what belongs to it must not be committed without it
		}
		done(-1, err)
		return
	}
	mayGo, err := p.enter(s)
	switch {
	case err != nil:
		done(-1, s.failed(err))
	case mayGo:
		p.hand(s)
	}
}

// enter takes a record in, and reports whether it may be handed over. Otherwise it waits in its lane.
func (p *Producer) enter(s *sending) (mayGo bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.transactions == nil {
		p.waitForRoom(mostUnderWay)
	}
	if err := p.fence(); err != nil {
		return false, err
	}
	if p.stopped {
		return false, ErrProducerClosed
	}
	p.left++
	p.bytes += s.size + sendingOverhead
	if t := p.transactions; t != nil {
		t.take(s)
		return false, nil
	}
	if s.lane = p.lanes[s.record.Topic]; s.lane == nil {
		s.lane = &lane{}
		p.lanes[s.record.Topic] = s.lane
	}
	if mayGo = len(s.lane.waiting) == 0 && p.pass(s); !mayGo {
		s.lane.waiting = append(s.lane.waiting, s)
	}
	return mayGo, nil
}

// waitForRoom waits while that many bytes are under way. p.mu is held.
func (p *Producer) waitForRoom(most int) {
	p.blocked++
	for !p.stopped && p.bytes >= most {
		p.room.Wait()
	}
	p.blocked--
}

// hand gives a record to its client.
func (p *Producer) hand(s *sending) {
	if s.client == nil {
		p.answer(&s.record, s.refused)
		return
	}
	s.client.Produce(s, &s.record, p.promise)
}

// fence is why nothing is written any more, nil while records are let through.
func (p *Producer) fence() error {
	if p.failing.Err() == nil {
		return nil
	}
	if err := context.Cause(p.failing); !errors.Is(err, context.Canceled) { // else the producer has ended
		return err
	}
	return nil
}

// answer is told by a client what became of a record.
func (p *Producer) answer(r *kgo.Record, err error) {
	s := r.Context.(*sending)
	offset, lost := r.Offset, false
	if err != nil {
		if p.transactions == nil && isOfOne(err) && p.again(s) {
			return
		}
		lost = errors.Is(err, kgo.ErrClientClosed) && p.fence() == nil
		offset, err = -1, s.failed(p.cause(s, err))
	}
	if p.transactions != nil && err != nil {
		if p.fence() == nil { // else it fails for another one
			p.transactions.refused(s, err)
		}
		p.fail(err) // nothing of the transaction can be committed
	}
	p.answering.Lock()
	s.done(offset, err)
	p.answering.Unlock()
	if s.acknowledged != nil {
		close(s.acknowledged)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
	p.bytes -= s.size + sendingOverhead
	if lost {
		p.lost++
	}
	if p.stopped && p.left == 0 {
		close(p.empty)
	}
	if p.blocked > 0 {
		p.room.Broadcast()
	}
	if t := p.transactions; t != nil && err == nil {
		t.written(s)
	}
	p.leave(s.lane)
}

// cause is why a client did not write a record.
func (p *Producer) cause(s *sending, err error) error {
	if fenced := p.fence(); fenced != nil {
		return fenced
	}
	switch {
	case s.refused != nil:
		return s.refused
	case errors.Is(err, kgo.ErrClientClosed):
		return errUnacknowledged
	case errors.Is(err, kerr.MessageTooLarge):
		p.cluster.Limits.Doubt()
	case errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, io.EOF): // of a search that ended after the time of the record. franz-go guesses that it is a mistake in the configuration
		return p.troubles.since(s.sent)
	}
	return err
}

// run does what must not hold up those who send, nor the callbacks.
func (p *Producer) run() {
	defer close(p.done)
	fenced := p.failing.Done()
	var poll <-chan time.Time
	if p.dialer != nil {
		ticker := time.NewTicker(fencePoll)
		defer ticker.Stop()
		poll = ticker.C
	}
	for {
		select {
		case <-p.behind:
			p.feed()
		case <-poll:
			_ = p.dialer.fence() // its error ends failing
		case <-fenced:
			fenced, poll = nil, nil
			if p.transactions != nil {
				if err := p.fence(); err != nil {
					p.transactions.Failed(err)
				}
				<-p.transactions.done
				p.transactions.abort()
			}
			if p.dialer != nil {
				p.dialer.cut()
			}
			p.stop()
			p.end() // what is pending fails now: franz-go would try again for long
		case <-p.over:
			p.end()
			if p.transactions != nil {
				<-p.transactions.done
			}
			return
		}
	}
}

// stop lets nothing more in.
func (p *Producer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.stopped = true
	if p.transactions != nil {
		close(p.transactions.closing)
	}
	p.room.Broadcast()
	if p.left == 0 {
		close(p.empty)
	}
}

// end answers what is not answered yet. It is for run alone.
func (p *Producer) end() {
	p.closeClients()
	p.mu.Lock()
	var waiting []*sending
	lanes := slices.Collect(maps.Values(p.lanes))
	if p.transactions != nil {
		lanes = append(lanes, &p.transactions.lane)
	}
	for _, l := range lanes {
		l.under += len(l.waiting)
		waiting = append(waiting, l.waiting...)
		l.waiting = nil
	}
	p.mu.Unlock()
	for _, s := range waiting {
		p.answer(&s.record, kgo.ErrClientClosed)
	}
	<-p.empty
	if p.transactions != nil { // what was acknowledged when its transaction was given up
		p.transactions.settle(cmp.Or(p.fence(), errUnacknowledged))
	}
}

func (p *Producer) closeClients() {
	p.mu.Lock()
	clients := p.clients
	p.clients = nil
	p.mu.Unlock()
	for _, client := range clients {
		client.Close()
	}
	p.cancel()
}

// Close waits until everything that was sent is acknowledged or has failed, but at most about 10 seconds: what is
// left then fails, and Close says how many that were. All callbacks were called when it returns. Close may be
// called again, and answers the same.
func (p *Producer) Close() error {
	p.once.Do(func() {
		p.stop()
		timeout := time.NewTimer(closeTimeout)
		defer timeout.Stop()
		empty := p.empty
		if p.transactions != nil {
			empty = p.transactions.done
		}
		select {
		case <-empty:
		case <-timeout.C:
		}
		close(p.over)
		<-p.done
		if p.lost > 0 {
			p.err = fmt.Errorf("closing the Kafka producer: %d records were not acknowledged within %v", p.lost, closeTimeout)
		}
	})
	return p.err
}
