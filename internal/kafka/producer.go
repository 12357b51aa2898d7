package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
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

	dialer   *fenceDialer  // nil without a fence
	fenced   chan struct{} // closed once the fence has answered an error, which is in fenceErr then
	fenceErr error

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
	p := &Producer{
		cluster: c,
		fenced:  make(chan struct{}),
		clients: map[int]*kgo.Client{},
		lanes:   map[string]*lane{},
		empty:   make(chan struct{}),
		behind:  make(chan struct{}, 1),
		over:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	p.room = sync.NewCond(&p.mu)
	p.promise = p.answer
	p.ctx, p.cancel = context.WithCancel(context.Background())
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
		p.cluster.connect = p.dialer.connect
	}
	if err := p.connect(); err != nil {
		p.closeClients()
		return nil, err
	}
	go p.run()
	return p, nil
}

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
	s := newSending(r, pin, done)
	if err := p.cluster.Limits.Check(r.Topic, s.size); err != nil {
		done(-1, s.failed(err))
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
	p.blocked++
	for !p.stopped && p.bytes >= mostUnderWay {
		p.room.Wait()
	}
	p.blocked--
	if err := p.fence(); err != nil {
		return false, err
	}
	if p.stopped {
		return false, ErrProducerClosed
	}
	if s.lane = p.lanes[s.record.Topic]; s.lane == nil {
		s.lane = &lane{}
		p.lanes[s.record.Topic] = s.lane
	}
	if mayGo = len(s.lane.waiting) == 0 && p.pass(s); !mayGo {
		s.lane.waiting = append(s.lane.waiting, s)
	}
	p.left++
	p.bytes += s.size + sendingOverhead
	return mayGo, nil
}

// hand gives a record to its client.
func (p *Producer) hand(s *sending) {
	if s.client == nil {
		p.answer(&s.record, s.refused)
		return
	}
	s.client.Produce(s, &s.record, p.promise)
}

// fence is the error of the fence, nil while it lets records through.
func (p *Producer) fence() error {
	select {
	case <-p.fenced:
		return p.fenceErr
	default:
		return nil
	}
}

// answer is told by a client what became of a record.
func (p *Producer) answer(r *kgo.Record, err error) {
	s := r.Context.(*sending)
	offset, lost := r.Offset, false
	if err != nil {
		if isOfOne(err) && p.again(s) {
			return
		}
		lost = errors.Is(err, kgo.ErrClientClosed) && p.fence() == nil
		offset, err = -1, s.failed(p.cause(s, err))
	}
	p.answering.Lock()
	s.done(offset, err)
	p.answering.Unlock()

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
	var fenced <-chan struct{}
	var poll <-chan time.Time
	if p.dialer != nil {
		ticker := time.NewTicker(fencePoll)
		defer ticker.Stop()
		fenced, poll = p.fenced, ticker.C
	}
	for {
		select {
		case <-p.behind:
			p.feed()
		case <-poll:
			_ = p.dialer.fence() // its error closes fenced
		case <-fenced:
			fenced, poll = nil, nil
			p.dialer.cut()
			p.stop()
			p.end() // what is pending fails now: franz-go would try again for long
		case <-p.over:
			p.end()
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
	for _, l := range p.lanes {
		l.under += len(l.waiting)
		waiting = append(waiting, l.waiting...)
		l.waiting = nil
	}
	p.mu.Unlock()
	for _, s := range waiting {
		p.answer(&s.record, kgo.ErrClientClosed)
	}
	<-p.empty
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
		select {
		case <-p.empty:
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
