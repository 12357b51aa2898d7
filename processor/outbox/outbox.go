package outbox

import (
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// Outbox is goka's producer. Safe for concurrent use.
type Outbox struct {
	// All are set before the first use.
	Producer    *kafka.Producer
	Codec       *Codec // of all topics but the table
	Table       string
	DeadLetters string
	Missing     *MissingTopics // of the replies
	Stalled     func() bool    // the partitions may have another owner, whose rows and replies ours would contradict

	returns sync.WaitGroup // replies that become dead letters; at most as many as there are requests in flight
}

// Emit implements goka.Producer.
func (o *Outbox) Emit(topic, key string, value []byte) *goka.Promise {
	return o.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka.Producer.
func (o *Outbox) EmitWithHeaders(topic, key string, value []byte, _ goka.Headers) *goka.Promise {
	promise, finish := goka.NewPromiseWithFinisher()
	record := Record{Record: wire.Record{Key: []byte(key), Value: value}}
	if topic != o.Table {
		var ok bool
		if record, ok = o.Codec.take(value); !ok {
			return finish(nil, fmt.Errorf("no record to emit to %s under key %q", topic, key))
		}
	}
	if o.Stalled() { // the error ends goka's processor; the next one begins with what the table holds by then
		return finish(nil, fmt.Errorf("topic %s, key %q: not sent: %w", topic, key, consumergroup.ErrStoodStill))
	}
	record.Topic = topic
	switch {
	case record.Reply != nil:
		o.sendReply(record, finish)
	case record.Lost != nil:
		o.sendAlone(record, finish)
	default:
		o.Producer.Send(record.Record, func(offset int64, err error) {
			// goka stores the offset of table writes with the local copy of the table.
			finish(&sarama.ProducerMessage{Topic: topic, Offset: offset}, err)
		})
	}
	return promise
}

// sendAlone sends a record that stands alone.
func (o *Outbox) sendAlone(r Record, finish goka.PromiseFinisher) {
	topic := r.Topic
	lose := func(err error) {
		r.Lost(fmt.Errorf("a reply message could not be written to topic %s: %w", topic, err))
		finish(&sarama.ProducerMessage{Topic: topic}, nil)
	}
	if err := o.Missing.skip(topic, time.Now()); err != nil {
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
		finish(&sarama.ProducerMessage{Topic: topic, Offset: offset}, err)
	})
}

// sendReply sends a record of a reply. Where its topic is gone, the request becomes a dead letter: the other routes go on.
func (o *Outbox) sendReply(r Record, finish goka.PromiseFinisher) {
	reply, topic := r.Reply, r.Topic
	if why := reply.keep(func() error { return o.Missing.skip(topic, time.Now()) }); why != nil {
		r.tell(-1, why)
		if reply.returned(finish, why) {
			o.end(topic, reply)()
		}
		return
	}
	o.Producer.SendPinned(r.Record, reply.pin, func(offset int64, err error) {
		r.tell(offset, err)
		if err != nil && o.Missing.lost(topic, err, time.Now()) {
			if reply.returned(finish, err) {
				o.returns.Go(o.end(topic, reply))
			}
			return
		}
		if err == nil {
			o.Missing.back(topic)
		}
		finish(&sarama.ProducerMessage{Topic: topic, Offset: offset}, err)
		if reply.arrived() { // and others of it were not
			o.returns.Go(o.end(topic, reply))
		}
	})
}

// tell says what became of a record of a reply.
func (r Record) tell(offset int64, err error) {
	if r.Sent != nil {
		r.Sent(r.Reply.pin.Partition(), offset, err)
	}
}

// end finishes the records of a reply that found no topic, when all are answered: once the dead letter is acknowledged.
// It sends, which the producer's callbacks must not.
func (o *Outbox) end(topic string, r *Reply) func() {
	return func() {
		waiting, whole, err := r.result()
		finish := func(err error) {
			for _, f := range waiting {
				f(&sarama.ProducerMessage{Topic: topic}, err)
			}
		}
		switch {
		case !whole:
			finish(err) // a part of the reply is out: goka's processor ends, and the next one writes the whole
		case o.Stalled():
			finish(fmt.Errorf("topic %s: not sent: %w", topic, consumergroup.ErrStoodStill))
		default:
			letter := r.letter(fmt.Sprintf("the reply could not be written to topic %s: %v", topic, err))
			letter.Topic = o.DeadLetters
			o.Producer.Send(letter, func(_ int64, err error) { finish(err) })
		}
	}
}

// Close implements goka.Producer.
func (o *Outbox) Close() error {
	err := o.Producer.Close() // after which nothing adds to what is waited for
	o.returns.Wait()
	return err
}
