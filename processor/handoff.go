package processor

import (
	"encoding/binary"
	"fmt"
	"sync"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

// handoff carries whole records through goka's Emit and Loopback, which know only a value and a map of headers:
// it is the codec that swaps a record for a token, and the outbox swaps it back. The order and the repetition of
// headers, and the difference between a null and an empty value, are kept that way.
type handoff struct {
	mu      sync.Mutex
	last    uint64
	records map[uint64]outgoing // each between Emit's encoding and its sending, so a few per partition
}

// outgoing is a record, and what it is part of: a reply, or a reply that flows.
type outgoing struct {
	wire.Record
	parcel *parcel
	flow   *stream
	sent   func(partition int32, offset int64, err error) // when Kafka has it, or has refused it; nil: nobody asks
}

func newHandoff() *handoff { return &handoff{records: make(map[uint64]outgoing)} }

// Encode implements goka.Codec. It cannot fail on a wire.Record, nor on an outgoing one.
func (h *handoff) Encode(v any) ([]byte, error) {
	var r outgoing
	switch v := v.(type) {
	case wire.Record:
		r.Record = v
	case outgoing:
		r = v
	default:
		return nil, fmt.Errorf("processor: %T cannot be emitted, only a wire.Record", v)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.records[h.last] = r
	return binary.BigEndian.AppendUint64(nil, h.last), nil
}

// Decode implements goka.Codec for topics that are only written.
func (h *handoff) Decode([]byte) (any, error) {
	return nil, fmt.Errorf("processor: an output topic is not read")
}

func (h *handoff) take(token []byte) (outgoing, bool) {
	if len(token) != 8 {
		return outgoing{}, false
	}
	id := binary.BigEndian.Uint64(token)
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.records[id]
	delete(h.records, id)
	return r, ok
}

// loopCodec is the codec of the loop topic, which is written as records and read as deliveries.
type loopCodec struct {
	*handoff
	consumergroup.Codec
}

func (c loopCodec) Encode(v any) ([]byte, error) { return c.handoff.Encode(v) }

func (c loopCodec) Decode(b []byte) (any, error) { return c.Codec.Decode(b) }
