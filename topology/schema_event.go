package topology

import (
	"cmp"
	"strings"
)

// eventWith is what a route has in its `with` that makes it one of plain events.
type eventWith struct {
	Method         methodName   `yaml:"method" doc:"package.Service/Method that plain events call"`
	Request        eventRequest `yaml:"request" doc:"how the value of an event becomes a message"`
	Reply          eventReply   `yaml:"reply" doc:"how the reply becomes the value of a record"`
	IdempotencyKey text         `yaml:"idempotency-key" doc:"what of an event is the idempotency key"`
	Metadata       named[text]  `yaml:"metadata" doc:"metadata of the call, by name"`
	Tombstones     text         `yaml:"tombstones" oneof:"skip dead-letter" doc:"what becomes of events without a value"`
}

type eventRequest struct {
	eventEncoding
	Catalog       named[[]writerRef] `yaml:"catalog" doc:"the schema registry that has the schemas of values"`
	UnknownFields text               `yaml:"unknown-fields" oneof:"refuse ignore" doc:"what becomes of fields that the message lacks"`
}

type eventReply struct {
	eventEncoding
	Catalog named[[]schemaRef] `yaml:"catalog" doc:"the schema registry that has the schema to write with"`
}

// eventEncoding says how values stand for messages. It is there if it has a place.
type eventEncoding struct {
	spot
	Encoding text `yaml:"encoding" oneof:"json protobuf avro" doc:"of the value"`
}

func (e *eventEncoding) given() bool { return e.place != place{} }

func (e *eventEncoding) encoding() Encoding {
	return Encoding{Name: cmp.Or(e.Encoding.value, EncodingJSON)}
}

// methodName is the name of one method.
type methodName struct{ text }

func (*methodName) regexp() string { return `^[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*$` }

func (m *methodName) parse(value string) string {
	if !legalMethod.MatchString(value) || strings.HasSuffix(value, "*") {
		return "must be package.Service/Method"
	}
	return ""
}
