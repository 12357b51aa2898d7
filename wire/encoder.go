package wire

import (
	"encoding/base64"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// encoder collects the headers of one record. Their values lie one behind another in one piece of memory; where that is too small, the later ones
// lie in another.
type encoder struct {
	headers []Header
	values  []byte
}

// newEncoder makes room for so many headers, those of a trace and of metadata, and so many bytes of values, besides those that are short.
func newEncoder(headers, values int, t Trace, metadata, trailers Metadata) encoder {
	const short = 128 // bytes of numbers, of grpc:call and a traceparent
	for _, field := range []string{t.Parent, t.State, t.Baggage} {
		if field != "" {
			headers++
		}
	}
	values += len(t.State) + len(t.Baggage)
	for _, f := range metadata {
		values += len(f.Value) * 4 / 3
	}
	for _, f := range trailers {
		values += len(f.Value) * 4 / 3
	}
	return encoder{make([]Header, 0, headers+len(metadata)+len(trailers)), make([]byte, 0, values+short)}
}

// end adds a header whose value was appended to values, which had so many bytes before.
func (e *encoder) end(name string, begin int) {
	e.headers = append(e.headers, Header{name, e.values[begin:len(e.values):len(e.values)]})
}

func (e *encoder) text(name, value string) {
	begin := len(e.values)
	e.values = append(e.values, value...)
	e.end(name, begin)
}

// known adds a header unless its value is empty.
func (e *encoder) known(name, value string) {
	if value != "" {
		e.text(name, value)
	}
}

func (e *encoder) integer(name string, n int64) {
	begin := len(e.values)
	e.values = strconv.AppendInt(e.values, n, 10)
	e.end(name, begin)
}

// last adds the headers with which every record ends, where they are known.
func (e *encoder) last(t Trace, n Number) []Header {
	e.known(traceParentHeader, t.Parent)
	e.known(traceStateHeader, t.State)
	e.known(baggageHeader, t.Baggage)
	if n, ok := n.Get(); ok {
		e.integer(numberHeader, int64(n))
	}
	return e.headers
}

// metadata adds one header for each field that passes, and that a reader will take.
func (e *encoder) metadata(c *Contract, prefix string, m Metadata) {
	for _, f := range m {
		name := strings.ToLower(f.Name)
		if !c.passes(prefix, name) || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		begin := len(e.values)
		if isBinary(name) {
			e.values = base64.RawStdEncoding.AppendEncode(e.values, []byte(f.Value))
		} else if httpguts.ValidHeaderFieldValue(f.Value) {
			e.values = append(e.values, f.Value...)
		} else {
			continue
		}
		var header [maxInterned]byte
		e.end(intern(append(append(header[:0], prefix...), name...)), begin)
	}
}
