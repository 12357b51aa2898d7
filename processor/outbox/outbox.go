package outbox

import (
	"fmt"
	"sync"
	"time"

	"kafkagrpc/internal/kafka"
)

// Outbox is the way of all records of a processor to Kafka. Safe for concurrent use.
type Outbox struct {
	// All are set before the first use.
	Producer    *kafka.Producer
	DeadLetters string
	Missing     *MissingTopics // of the replies
	Lost        func() error   // why the partitions may have another owner, whose rows and replies ours would contradict; nil while they are ours

	returns sync.WaitGroup // replies that become dead letters; at most as many as there are requests in flight
}

// Send writes a record to its topic. done is called exactly once, as the one of kafka.Producer.Send, or when the dead letter is acknowledged that stands
// for the record.
func (o *Outbox) Send(r Record, done func(offset int64, err error)) {
	if lost := o.Lost(); lost != nil { // the error ends goka's processor; the next one begins with what the table holds by then
		done(-1, fmt.Errorf("topic %s, key %q: not sent: %w", r.Topic, r.Key, lost))
		return
	}
	switch {
	case r.Reply != nil:
		o.sendReply(r, done)
	case r.Lost != nil:
		o.sendAlone(r, done)
	default:
		o.Producer.SendCommitted(r.Record, r.Pin, done, r.Committed)
	}
}

// Begin begins a unit of records, as kafka.Producer.Begin.
func (o *Outbox) Begin() { o.Producer.Begin() }

// End ends it.
func (o *Outbox) End(whole bool) { o.Producer.End(whole) }

// sendAlone sends a record that stands alone.
func (o *Outbox) sendAlone(r Record, done func(int64, error)) {
	topic := r.Topic
	lose := func(err error) {
		r.Lost(fmt.Errorf("a reply message could not be written to topic %s: %w", topic, err))
		done(-1, nil)
	}
	if err := o.Missing.skip(topic, r.Key, time.Now()); err != nil {
		lose(err)
		return
	}
	o.Producer.SendPinned(r.Record, r.Pin, func(offset int64, err error) {
		if err != nil && o.Missing.lost(topic, err, time.Now()) {
			lose(err)
			return
		}
		if err == nil {
			o.Missing.back(topic)
		}
		done(offset, err)
	})
}

// sendReply sends a record of a reply. Where its topic is gone, the request becomes a dead letter: the other routes go on.
func (o *Outbox) sendReply(r Record, done func(int64, error)) {
	reply, topic, key, sent := r.Reply, r.Topic, r.Key, r.Sent // not r, which is large, for the functions to keep
	if why := reply.keep(func() error { return o.Missing.skip(topic, key, time.Now()) }); why != nil {
		reply.tell(sent, -1, why)
		if reply.returned(done, why) {
			o.end(topic, reply)()
		}
		return
	}
	o.Producer.SendPinned(r.Record, reply.pin, func(offset int64, err error) {
		reply.tell(sent, offset, err)
		if err != nil && o.Missing.lost(topic, err, time.Now()) {
			if reply.returned(done, err) {
				o.returns.Go(o.end(topic, reply))
			}
			return
		}
		if err == nil {
			o.Missing.back(topic)
		}
		done(offset, err)
		if reply.arrived() { // and others of it were not
			o.returns.Go(o.end(topic, reply))
		}
	})
}

// tell says what became of a record of the reply.
func (r *Reply) tell(sent func(partition int32, offset int64, err error), offset int64, err error) {
	if sent != nil {
		sent(r.pin.Partition(), offset, err)
	}
}

// end finishes the records of a reply that found no topic, when all are answered: once the dead letter is acknowledged.
// It sends, which the producer's callbacks must not.
func (o *Outbox) end(topic string, r *Reply) func() {
	return func() {
		waiting, whole, err := r.result()
		finish := func(err error) {
			for _, done := range waiting {
				done(-1, err)
			}
		}
		lost := o.Lost()
		switch {
		case !whole:
			finish(err) // a part of the reply is out: goka's processor ends, and the next one writes the whole
		case lost != nil:
			finish(fmt.Errorf("topic %s: not sent: %w", topic, lost))
		default:
			letter := r.letter(fmt.Sprintf("the reply could not be written to topic %s: %v", topic, err))
			letter.Topic = o.DeadLetters
			o.Producer.Send(letter, func(_ int64, err error) { finish(err) })
		}
	}
}

// Close waits for what was sent.
func (o *Outbox) Close() error {
	err := o.Producer.Close() // after which nothing adds to what is waited for
	o.returns.Wait()
	return err
}
