package kafka

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// recordOf is the record that franz-go has fetched. Headers keep their order and repetitions; a null key or value is
// nil, an empty one is not. Bytes are shared, not copied.
func recordOf(f *kgo.Record) wire.Record { return recordWith(f, make([]wire.Header, len(f.Headers))) }

// recordWith is recordOf with room for as many headers as there are.
func recordWith(f *kgo.Record, headers []wire.Header) wire.Record {
	r := wire.Record{Topic: f.Topic, Partition: f.Partition, Offset: f.Offset, Timestamp: f.Timestamp, Key: f.Key, Value: f.Value}
	if len(headers) > 0 {
		r.Headers = headers
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
