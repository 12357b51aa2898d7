package payload

import (
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Format is the language of a schema.
type Format string

// The formats, as people call them.
const (
	FormatAvro     Format = "Avro"
	FormatProtobuf Format = "Protobuf"
	FormatJSON     Format = "JSON Schema"
)

// Schema is one of a registry. It never changes, and what it is made into is made once. Safe for concurrent use.
type Schema struct {
	ID         int
	IDBytes    int // of the id in a frame, LongID or else ShortID
	Format     Format
	Text       string
	References []string // texts of Avro schemas whose types this one names, each after those that it names itself

	once  sync.Once
	avro  *avroType
	proto *descriptorpb.FileDescriptorProto
	wrong error

	jsonOnce  sync.Once // as most values of JSON are not validated
	json      *jsonschema.Schema
	jsonWrong error
}

// Check says why the schema cannot be used, as an *Error, or nil.
func (s *Schema) Check() error {
	s.once.Do(func() {
		var err error
		switch s.Format {
		case FormatAvro:
			s.avro, err = parseAvro(s.Text, s.References)
		case FormatProtobuf:
			s.proto, err = parseProto(s.Text)
		}
		if err != nil {
			s.wrong = &Error{Reason: fmt.Sprintf("its schema %d cannot be used: %v", s.ID, err)}
		}
	})
	return s.wrong
}
