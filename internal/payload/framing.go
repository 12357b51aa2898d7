package payload

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
)

// A schema registry's framing is the magic byte 0, then the id of the schema in as many bytes: in 4 that of Confluent, and in 8 that of
// Apicurio, unless it is told otherwise.
const (
	ShortID = 4
	LongID  = 8
)

// seemsFramed is why a value does not fit that is read without a framing: neither JSON nor protobuf begins so.
const seemsFramed = "it begins with byte 0, as the framing of a schema registry does, and none is read here"

// Schemas are those of a schema registry. Safe for concurrent use.
type Schemas interface {
	// Known reports whether Schema answers at once.
	Known(id int) bool
	// Schema answers the schema with an id. An *Error says that there is none that can be used; any other error may pass.
	Schema(ctx context.Context, id int) (*Schema, error)
	// IDBytes is ShortID or LongID.
	IDBytes() int
}

// unframe splits a value into the id of its schema and the rest.
func unframe(value []byte, idBytes int) (id int, rest []byte, err error) {
	switch {
	case len(value) < 1+idBytes:
		return 0, nil, &Error{Reason: fmt.Sprintf("it has %d bytes, too few for a schema registry's framing", len(value))}
	case value[0] != 0:
		return 0, nil, &Error{Reason: fmt.Sprintf("it begins with byte %d, and not with 0 as a schema registry's framing does", value[0])}
	}
	rest = value[1+idBytes:]
	if idBytes == LongID {
		return int(binary.BigEndian.Uint64(value[1:])), rest, nil
	}
	return int(binary.BigEndian.Uint32(value[1:])), rest, nil
}

// Framing is what a value begins with that has a schema registry's framing with ids of so many bytes, 0 for ShortID, and where it is asked for the
// indexes of a message; nil: it has none.
func Framing(value []byte, idBytes int, indexes bool) []byte {
	_, rest, err := unframe(value, cmp.Or(idBytes, ShortID))
	if err == nil && indexes {
		_, rest, err = readIndexes(rest)
	}
	if err != nil {
		return nil
	}
	return value[:len(value)-len(rest)]
}

// frame is what values of the schema begin with.
func (s *Schema) frame() []byte {
	if s.IDBytes == LongID {
		return binary.BigEndian.AppendUint64([]byte{0}, uint64(s.ID))
	}
	return binary.BigEndian.AppendUint32([]byte{0}, uint32(s.ID))
}

// framed is what decoders of framed values have in common.
type framed struct{ schemas Schemas }

// Ready is true of a value without a usable frame, too: its error needs nobody.
func (f framed) Ready(value []byte) bool {
	id, _, err := unframe(value, f.schemas.IDBytes())
	return err != nil || f.schemas.Known(id)
}

// schema is that of a value, which has to be of a kind, and usable.
func (f framed) schema(ctx context.Context, value []byte, want Format) (*Schema, []byte, error) {
	id, rest, err := unframe(value, f.schemas.IDBytes())
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
func FramedJSON(schemas Schemas, json Decoder) Decoder { return framedJSON{schemas.IDBytes(), json} }

type framedJSON struct {
	idBytes int
	json    Decoder
}

func (d framedJSON) Ready(value []byte) bool {
	_, rest, err := unframe(value, d.idBytes)
	return err != nil || d.json.Ready(rest)
}

func (d framedJSON) Decode(ctx context.Context, value []byte) ([]byte, error) {
	_, rest, err := unframe(value, d.idBytes)
	if err != nil {
		return nil, err
	}
	return d.json.Decode(ctx, rest)
}

// FramedJSONEncoder writes JSON with the framing of a schema registry.
func FramedJSONEncoder(json Encoder, schema func() *Schema) Encoder {
	return framedEncoder{json, func() ([]byte, error) { return schema().frame(), nil }}
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
