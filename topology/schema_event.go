package topology

import (
	"cmp"
	"strings"
)

// eventWith is what a route has in its `with` that makes it one of plain events.
type eventWith struct {
	Method         methodName    `yaml:"method"`
	Request        eventRequest  `yaml:"request"`
	Reply          eventEncoding `yaml:"reply"`
	IdempotencyKey text          `yaml:"idempotency-key"`
	Metadata       named[text]   `yaml:"metadata"`
	Tombstones     text          `yaml:"tombstones" oneof:"skip dead-letter"`
}

type eventRequest struct {
	eventEncoding
	UnknownFields text `yaml:"unknown-fields" oneof:"refuse ignore"`
}

// eventEncoding says how values stand for messages. It is there if it has a place.
type eventEncoding struct {
	spot
	Encoding text `yaml:"encoding" oneof:"json protobuf" later:"avro"`
}

func (e *eventEncoding) given() bool { return e.place != place{} }

func (e *eventEncoding) encoding() Encoding {
	return Encoding{Name: cmp.Or(e.Encoding.value, EncodingJSON)}
}

// methodName is the name of one method.
type methodName struct{ text }

func (m *methodName) parse(value string) string {
	if !legalMethod.MatchString(value) || strings.HasSuffix(value, "*") {
		return "must be package.Service/Method"
	}
	return ""
}
