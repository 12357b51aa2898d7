package kafka

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lane is what is under way to a topic, in order.
//
// A client of franz-go has one bound for its batches, for good: it makes batches of small records as large as that, which a topic that
// takes less refuses as a whole, and fails a record that is larger. So each bound has a client. A record that is larger than a batch
// goes alone, through one whose bound is no topic's. To keep the order, a topic changes clients only while nothing is under way to it.
//
// A record that Kafka refuses takes all others of its batch with it, and in franz-go all behind them. They are sent again, one by one.
type lane struct {
	under    int        // records that were handed to a client
	bound    int        // of that client
	alone    bool       // there is one, and none may join it
	together bool       // several have been under way since none was
	waiting  []*sending // those behind, which are not handed over yet
	handing  int        // how many of them, the first ones, are just being handed over
}

// batch is the bound of the batches that a record may be in, and whether it must be the only one in its own.
func (l *Limits) batch(topic string, size int) (bound int, alone bool) {
	if bound = min(l.Of(topic), DefaultMaxRecordBytes); size > bound {
		return MaxRecordBytes, true
	}
	return bound, false
}

// pass reports whether a record may be handed to its client now, and counts it then. p.mu is held.
func (p *Producer) pass(s *sending) bool {
	l := s.lane
	bound, alone := p.cluster.Limits.batch(s.record.Topic, s.size)
	alone = alone || s.again
	if l.under > 0 && (l.alone || alone || bound != l.bound) {
		return false
	}
	s.client, s.refused = p.client(bound)
	s.Context = p.term.of(p.ctx, p.bytes) // not counting how long it has waited here
	l.together = l.under > 0
	l.under++
	l.bound, l.alone = bound, alone
	return true
}

// leave takes out a record that is answered, and lets others pass. p.mu is held.
func (p *Producer) leave(l *lane) {
	l.under--
	if p.transactions != nil {
		p.transactions.left()
		return
	}
	if l.under > 0 || len(l.waiting) == 0 {
		return
	}
	select {
	case p.behind <- struct{}{}:
	default: // it knows
	}
}

// again takes back a record that was refused with others, to send it alone, before those that wait. It reports whether it did.
func (p *Producer) again(refused *sending) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := refused.lane
	if p.stopped || !l.together {
		return false
	}
	s := *refused // which a request that is on its way may still look at
	s.record.Context, s.again = &s, true
	at := l.handing
	for at < len(l.waiting) && l.waiting[at].again {
		at++
	}
	l.waiting = slices.Insert(l.waiting, at, &s)
	p.leave(l)
	return true
}

// isOfOne tells the errors of a batch that one of its records is to blame for.
func isOfOne(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)
}

// feed hands over what has waited for long enough. It is for run alone.
func (p *Producer) feed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lanes {
		for len(l.waiting) > 0 && p.pass(l.waiting[0]) {
			s := l.waiting[0]
			l.handing = 1
			p.mu.Unlock()
			p.hand(s)
			p.mu.Lock()
			l.handing = 0
			l.waiting = l.waiting[1:] // only now: what its sender sends next would overtake it
		}
		if len(l.waiting) == 0 {
			l.waiting = nil
		}
	}
}

// client is the one whose batches have that bound. p.mu is held. There are as many as there are bounds below DefaultMaxRecordBytes among the
// topics, now or before, and two.
func (p *Producer) client(bound int) (*kgo.Client, error) {
	if client := p.clients[bound]; client != nil {
		return client, nil
	}
	if p.clients == nil {
		return nil, kgo.ErrClientClosed
	}
	places := &partitioner{keyed: p.cluster.KeyPartitions}
	options := p.cluster.producerOptions(bound)
	if p.transactions != nil {
		options = p.cluster.transactionOptions(p.transactions.Transactions)
	}
	client, err := kgo.NewClient(append(options,
		kgo.RecordPartitioner(places),
		kgo.WithHooks(&p.troubles),
	)...)
	if err != nil {
		return nil, err
	}
	places.client = client
	p.clients[bound] = client
	return client, nil
}
