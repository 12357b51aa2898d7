package app

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
)

// codecs are what reads and writes the values of the plain events of a route.
func codecs(event topology.Event) (read payload.Decoder, write payload.Encoder, err error) {
	if read, err = codec(event.Input, event.Request); err != nil {
		return nil, nil, err
	}
	if event.Reply.Name != "" {
		write, err = codec(event.Output, event.Reply)
	}
	return read, write, err
}

// codec is that of one encoding.
func codec(message protoreflect.MessageDescriptor, e topology.Encoding) (interface {
	payload.Decoder
	payload.Encoder
}, error) {
	unknown := payload.UnknownFields(e.IgnoreUnknown)
	switch e.Name {
	case topology.EncodingJSON:
		return payload.NewJSON(message, unknown), nil
	case topology.EncodingProtobuf:
		return payload.NewProtobuf(message, unknown), nil
	}
	return nil, fmt.Errorf("no encoding is called %q", e.Name)
}
