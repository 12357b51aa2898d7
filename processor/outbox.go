package processor

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

// outbox is goka's producer: rows go to the table as they are, everything else is a record from the handoff.
type outbox struct {
	producer *kafka.Producer
	handoff  *handoff
	table    string
	gone     *gone       // of the reply topics
	letters  string      // the dead-letter topic
	stalled  func() bool // the partitions may have another owner, whose rows and replies ours would contradict

	returns sync.WaitGroup // replies that become dead letters; at most as many as there are requests in flight
}

// Emit implements goka.Producer.
func (o *outbox) Emit(topic, key string, value []byte) *goka.Promise {
	return o.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka.Producer.
func (o *outbox) EmitWithHeaders(topic, key string, value []byte, _ goka.Headers) *goka.Promise {
	promise, finish := goka.NewPromiseWithFinisher()
	record := outgoing{Record: wire.Record{Key: []byte(key), Value: value}}
	if topic != o.table {
		var ok bool
		if record, ok = o.handoff.take(value); !ok {
			return finish(nil, fmt.Errorf("no record to emit to %s under key %q", topic, key))
		}
	}
	if o.stalled() { // the error ends goka's processor; the next one begins with what the table holds by then
		return finish(nil, fmt.Errorf("topic %s, key %q: not sent: %w", topic, key, consumergroup.ErrStoodStill))
	}
	record.Topic = topic
	if record.flow != nil {
		o.flow(record, finish)
		return promise
	}
	if record.parcel != nil {
		o.reply(record, finish)
		return promise
	}
	o.producer.Send(record.Record, func(offset int64, err error) {
		// goka stores the offset of table writes with the local copy of the table.
		finish(&sarama.ProducerMessage{Topic: topic, Offset: offset}, err)
	})
	return promise
}

// flow sends a message of a reply that flows. Where its topic is gone, the call is ended, and becomes a dead letter then.
func (o *outbox) flow(r outgoing, finish goka.PromiseFinisher) {
	topic := r.Topic
	lose := func(err error) {
		r.flow.lose(fmt.Errorf("a reply message could not be written to topic %s: %w", topic, err))
		finish(&sarama.ProducerMessage{Topic: topic}, nil)
	}
	if err := o.gone.skip(topic, time.Now()); err != nil {
		lose(err)
		return
	}
	o.producer.SendPinned(r.Record, &r.flow.pin, func(offset int64, err error) {
		if err != nil && o.gone.lost(topic, err, time.Now()) {
			lose(err)
			return
		}
		if err == nil {
			o.gone.back(topic)
		}
		finish(&sarama.ProducerMessage{Topic: topic, Offset: offset}, err)
	})
}

// reply sends a record of a reply. Where its topic is gone, the request becomes a dead letter: the other routes go on.
func (o *outbox) reply(r outgoing, finish goka.PromiseFinisher) {
	parcel, topic := r.parcel, r.Topic
	if why := parcel.keep(func() error { return o.gone.skip(topic, time.Now()) }); why != nil {
		r.tell(parcel, -1, why)
		if parcel.returned(finish, why) {
			o.end(topic, parcel)()
		}
		return
	}
	o.producer.SendPinned(r.Record, parcel.pin, func(offset int64, err error) {
		r.tell(parcel, offset, err)
		if err != nil && o.gone.lost(topic, err, time.Now()) {
			if parcel.returned(finish, err) {
				o.returns.Go(o.end(topic, parcel))
			}
			return
		}
		if err == nil {
			o.gone.back(topic)
		}
		finish(&sarama.ProducerMessage{Topic: topic, Offset: offset}, err)
		if parcel.arrived() { // and others of it were not
			o.returns.Go(o.end(topic, parcel))
		}
	})
}

// tell says what became of a record of a reply.
func (r outgoing) tell(p *parcel, offset int64, err error) {
	if r.sent != nil {
		r.sent(p.pin.Partition(), offset, err)
	}
}

// end finishes the records of a reply that found no topic, when all are answered: once the dead letter is acknowledged.
// It sends, which the producer's callbacks must not.
func (o *outbox) end(topic string, p *parcel) func() {
	return func() {
		waiting, whole, err := p.result()
		finish := func(err error) {
			for _, f := range waiting {
				f(&sarama.ProducerMessage{Topic: topic}, err)
			}
		}
		switch {
		case !whole:
			finish(err) // a part of the reply is out: goka's processor ends, and the next one writes the whole
		case o.stalled():
			finish(fmt.Errorf("topic %s: not sent: %w", topic, consumergroup.ErrStoodStill))
		default:
			letter := p.letter(fmt.Sprintf("the reply could not be written to topic %s: %v", topic, err))
			letter.Topic = o.letters
			o.producer.Send(letter, func(_ int64, err error) { finish(err) })
		}
	}
}

// Close implements goka.Producer.
func (o *outbox) Close() error {
	err := o.producer.Close() // after which nothing adds to what is waited for
	o.returns.Wait()
	return err
}
