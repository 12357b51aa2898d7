package kafka

import (
	"encoding/binary"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// RecordOf is the record of a consumed message. Headers keep their order and repetitions; a null key or value is
// nil, an empty one is not. Bytes are shared with the message, not copied.
func RecordOf(m *sarama.ConsumerMessage) wire.Record {
	r := wire.Record{
		Topic:     m.Topic,
		Partition: m.Partition,
		Offset:    m.Offset,
		Timestamp: m.Timestamp,
		Key:       m.Key,
		Value:     m.Value,
	}
	if len(m.Headers) > 0 {
		r.Headers = make([]wire.Header, len(m.Headers))
		for i, h := range m.Headers {
			r.Headers[i] = wire.Header{Name: wire.Text(h.Key), Value: h.Value}
		}
	}
	return r
}

// recordOf is the record that franz-go has fetched, as RecordOf.
func recordOf(f *kgo.Record) wire.Record {
	r := wire.Record{Topic: f.Topic, Partition: f.Partition, Offset: f.Offset, Timestamp: f.Timestamp, Key: f.Key, Value: f.Value}
	if len(f.Headers) > 0 {
		r.Headers = make([]wire.Header, len(f.Headers))
		for i, h := range f.Headers {
			r.Headers[i] = wire.Header{Name: h.Key, Value: h.Value}
		}
	}
	return r
}

// Size is the number of bytes of a record as the limits of this package count them: key, value, headers and what
// Kafka adds to each at most.
func Size(r wire.Record) int {
	const perHeader = 2 * binary.MaxVarintLen32
	n := recordOverhead + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Name) + len(h.Value) + perHeader
	}
	return n
}

// recordOverhead is the most that Kafka adds to a record: its length, attributes, time and offset, and the lengths of its key, its
// value and its headers.
const recordOverhead = 5*binary.MaxVarintLen32 + binary.MaxVarintLen64 + 1
