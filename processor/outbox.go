package processor

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/wire"
)

// outbox is goka's producer: rows go to the table as they are, everything else is a record from the handoff.
type outbox struct {
	producer *kafka.Producer
	handoff  *handoff
	table    string
	stalled  func() bool // the partitions may have another owner, whose rows and replies ours would contradict
}

// errStalled ends goka's processor; the next one begins with what the table holds by then.
var errStalled = errors.New("not sent: the process stood still for so long that its partitions may have another owner; it starts anew")

// Emit implements goka.Producer.
func (o *outbox) Emit(topic, key string, value []byte) *goka.Promise {
	return o.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka.Producer.
func (o *outbox) EmitWithHeaders(topic, key string, value []byte, _ goka.Headers) *goka.Promise {
	promise, finish := goka.NewPromiseWithFinisher()
	record := wire.Record{Key: []byte(key), Value: value}
	if topic != o.table {
		var ok bool
		if record, ok = o.handoff.take(value); !ok {
			return finish(nil, fmt.Errorf("no record to emit to %s under key %q", topic, key))
		}
	}
	if o.stalled() {
		return finish(nil, fmt.Errorf("topic %s, key %q: %w", topic, key, errStalled))
	}
	record.Topic = topic
	o.producer.Send(record, func(offset int64, err error) {
		// goka stores the offset of table writes with the local copy of the table.
		finish(&sarama.ProducerMessage{Topic: topic, Offset: offset}, err)
	})
	return promise
}

// Close implements goka.Producer.
func (o *outbox) Close() error { return o.producer.Close() }
