// Package payload turns the values of plain events into messages of gRPC methods, and messages into values. It knows nothing of
// Kafka, of calls and of configuration.
package payload

import (
	"context"
	"fmt"
)

// Decoder turns the value of an event into a message. Safe for concurrent use.
type Decoder interface {
	// Ready reports whether Decode answers this value at once: false where a schema has to be fetched first. Whoever must not wait calls Decode
	// on another goroutine then.
	Ready(value []byte) bool
	// Decode answers the message in protobuf's binary form. An *Error says that the value will never fit; any other error may pass, such as
	// that of a schema registry that cannot be reached.
	Decode(ctx context.Context, value []byte) ([]byte, error)
}

// Encoder turns a message, in protobuf's binary form, into the value of a record. Safe for concurrent use, and never waits.
type Encoder interface {
	Encode(message []byte) ([]byte, error)
}

// Error is that of a value that does not fit the message, with the place in it.
type Error struct {
	Path   string // of the field, such as $.items[2].price; "" for the value as a whole
	Reason string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Reason
	}
	return fmt.Sprintf("%s: %s", e.Path, e.Reason)
}
