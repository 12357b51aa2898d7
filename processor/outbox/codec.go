package outbox

import (
	"encoding/binary"
	"fmt"
	"sync"

	"kafkagrpc/wire"
)

// Codec carries whole records through goka's Emit and Loopback, which know only a value and a map of headers: it swaps a record
// for a token, and the Outbox swaps it back. The order and the repetition of headers, and the difference between a null and an empty
// value, are kept that way. Safe for concurrent use.
type Codec struct {
	mu      sync.Mutex
	last    uint64
	records map[uint64]Record // each between Emit's encoding and its sending, so a few per partition
}

// NewCodec makes the codec of one goka processor.
func NewCodec() *Codec { return &Codec{records: make(map[uint64]Record)} }

// Encode implements goka.Codec. It cannot fail on a wire.Record, nor on a Record.
func (c *Codec) Encode(v any) ([]byte, error) {
	var r Record
	switch v := v.(type) {
	case wire.Record:
		r.Record = v
	case Record:
		r = v
	default:
		return nil, fmt.Errorf("outbox: %T cannot be emitted, only a record", v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.records[c.last] = r
	return binary.BigEndian.AppendUint64(nil, c.last), nil
}

// Decode implements goka.Codec. What is written through it is not read: it always fails.
func (c *Codec) Decode([]byte) (any, error) {
	return nil, fmt.Errorf("outbox: an output topic is not read")
}

func (c *Codec) take(token []byte) (Record, bool) {
	if len(token) != 8 {
		return Record{}, false
	}
	id := binary.BigEndian.Uint64(token)
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.records[id]
	delete(c.records, id)
	return r, ok
}
