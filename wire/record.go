package wire

import "time"

// Header is one record header. Names may repeat and their order counts.
type Header struct {
	Name  string
	Value []byte
}

// Record is one Kafka record, independent of a client library. A nil Key or Value is null on Kafka; an
// empty, non-nil one is not.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time
	Key       []byte
	Value     []byte
	Headers   []Header
}
