// Package rawcodec lets grpc-go carry messages that are protobuf already: it passes bytes through as they are.
// It knows nothing of who calls whom.
package rawcodec

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// Codec takes *[]byte for messages in both directions. Bytes that are sent must not change any more; those
// received are the receiver's own, and never nil. It is stateless and safe for concurrent use.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// Name makes the content type application/grpc+proto, because that is what the bytes are.
func (Codec) Name() string { return "proto" }

// Marshal implements [encoding.CodecV2].
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: a message is %T, want *[]byte", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*message)}, nil
}

// Unmarshal implements [encoding.CodecV2].
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: a message is %T, want *[]byte", v)
	}
	// A copy, because gRPC takes its buffers back. Materialize would make nil of an empty message.
	*message = make([]byte, data.Len())
	data.CopyTo(*message)
	return nil
}
