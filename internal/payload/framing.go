package payload

import (
	"context"
	"encoding/binary"
	"fmt"
)

// A schema registry's framing: the magic byte 0, then the id of the schema in 4 bytes.
const frameBytes = 5

// Schemas are those of a schema registry. Safe for concurrent use.
type Schemas interface {
	// Known reports whether Schema answers at once.
	Known(id int) bool
	// Schema answers the schema with an id. An *Error says that there is none that can be used; any other error may pass.
	Schema(ctx context.Context, id int) (*Schema, error)
}

// unframe splits a value into the id of its schema and the rest.
func unframe(value []byte) (id int, rest []byte, err error) {
	switch {
	case len(value) < frameBytes:
		return 0, nil, &Error{Reason: fmt.Sprintf("it has %d bytes, too few for a schema registry's framing", len(value))}
	case value[0] != 0:
		return 0, nil, &Error{Reason: fmt.Sprintf("it begins with byte %d, and not with 0 as a schema registry's framing does", value[0])}
	}
	return int(binary.BigEndian.Uint32(value[1:])), value[frameBytes:], nil
}

func frame(id int) []byte { return binary.BigEndian.AppendUint32([]byte{0}, uint32(id)) }

// framed is what decoders of framed values have in common.
type framed struct{ schemas Schemas }

// Ready is true of a value without a usable frame, too: its error needs nobody.
func (f framed) Ready(value []byte) bool {
	id, _, err := unframe(value)
	return err != nil || f.schemas.Known(id)
}

// schema is that of a value, which has to be of a kind, and usable.
func (f framed) schema(ctx context.Context, value []byte, want Format) (*Schema, []byte, error) {
	id, rest, err := unframe(value)
	if err != nil {
		return nil, nil, err
	}
	s, err := f.schemas.Schema(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if s.Format != want {
		return nil, nil, &Error{Reason: fmt.Sprintf("its schema %d is of %s, not of %s", id, s.Format, want)}
	}
	return s, rest, s.Check()
}

// FramedJSON reads JSON with a schema registry's framing. The schema itself is not looked at: what does not fit the message is told
// by the decoder of JSON.
func FramedJSON(json Decoder) Decoder { return framedJSON{json} }

type framedJSON struct{ json Decoder }

func (d framedJSON) Ready(value []byte) bool {
	_, rest, err := unframe(value)
	return err != nil || d.json.Ready(rest)
}

func (d framedJSON) Decode(ctx context.Context, value []byte) ([]byte, error) {
	_, rest, err := unframe(value)
	if err != nil {
		return nil, err
	}
	return d.json.Decode(ctx, rest)
}

// FramedJSONEncoder writes JSON with the framing of a schema registry.
func FramedJSONEncoder(json Encoder, schema func() *Schema) Encoder {
	return framedEncoder{json, func() ([]byte, error) { return frame(schema().ID), nil }}
}

// framedEncoder writes a frame before what another encoder writes.
type framedEncoder struct {
	inner Encoder
	frame func() ([]byte, error)
}

func (e framedEncoder) Encode(message []byte) ([]byte, error) {
	head, err := e.frame()
	if err != nil {
		return nil, err
	}
	rest, err := e.inner.Encode(message)
	if err != nil {
		return nil, err
	}
	return append(head, rest...), nil
}
