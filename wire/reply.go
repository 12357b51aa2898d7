package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

// Reply is what the headers of a reply record say. The record's value is a message, or null for the end of the
// call: status, message and trailers are on that record only.
type Reply struct {
	CorrelationID string
	Call          string // the attempt that is answered; "" where the request named none
	Trace         Trace
	Metadata      Metadata // initial metadata of the service
	Status        codes.Code
	Message       string // of the status, decoded
	Trailers      Metadata
	LeftOut       LeftOut // of Metadata and Trailers, by the decoder
	Number        Number
}

// EncodeReplyMessage writes the headers of a record that carries a reply message. Status, message and trailers
// are not part of it.
func (c Contract) EncodeReplyMessage(r Reply) []Header { return c.encodeReply(r, false) }

// EncodeReplyEnd writes the headers of the null record that ends a call. Initial metadata belongs on messages;
// set it here only where the call has none, so that it is not lost.
func (c Contract) EncodeReplyEnd(r Reply) []Header { return c.encodeReply(r, true) }

func (c Contract) encodeReply(r Reply, end bool) []Header {
	known := 3 // correlation id, grpc:call and grpc:message
	if end {
		known += 2
	} else {
		r.Message, r.Trailers = "", nil
	}
	e := newEncoder(known, len(r.CorrelationID)+len(r.Message), r.Trace, r.Metadata, r.Trailers)
	e.text(c.CorrelationID, r.CorrelationID)
	if end {
		e.integer(statusHeader, int64(ValidStatus(r.Status)))
		e.known(messageHeader, EncodeMessage(r.Message))
	}
	e.metadata(&c, metadataPrefix, r.Metadata)
	e.metadata(&c, trailerPrefix, r.Trailers)
	e.known(callHeader, r.Call)
	return e.last(r.Trace, r.Number)
}

// DecodeReply reads the headers of a reply record, of both kinds. An absent status is OK. Metadata that cannot be carried is
// left out and counted. With an error the status is INTERNAL, and the correlation id and call are set where they could be read.
func (c Contract) DecodeReply(headers []Header) (Reply, error) {
	var r Reply
	var problems []error
	for i, h := range headers {
		switch h.Name {
		case c.CorrelationID:
			r.CorrelationID = string(h.Value)
		case statusHeader:
			status, err := decodeStatus(h.Value)
			r.Status, problems = status, appendError(problems, err)
		case messageHeader:
			r.Message = DecodeMessage(string(h.Value))
		case callHeader:
			call, err := decodeCall(h.Value)
			r.Call, problems = call, appendError(problems, err)
		case traceParentHeader:
			r.Trace.Parent = string(h.Value)
		case traceStateHeader:
			r.Trace.State = string(h.Value)
		case baggageHeader:
			r.Trace.Baggage = string(h.Value)
		case numberHeader:
			number, err := decodeNumber(h.Value)
			r.Number, problems = number, appendError(problems, err)
		default:
			switch {
			case strings.HasPrefix(h.Name, metadataPrefix):
				r.Metadata = c.appendField(r.Metadata, &r.LeftOut, metadataPrefix, headers[i:])
			case strings.HasPrefix(h.Name, trailerPrefix):
				r.Trailers = c.appendField(r.Trailers, &r.LeftOut, trailerPrefix, headers[i:])
			}
		}
	}
	if len(problems) > 0 {
		r.Status = codes.Internal
	}
	return r, errors.Join(problems...)
}

// Names reads only what tells whose reply a record is: its correlation id and grpc:call, without copying
// them. It is for readers of a reply topic that skip most of its records.
func (c Contract) Names(headers []Header) (correlationID, call []byte) {
	for _, h := range headers {
		switch h.Name {
		case c.CorrelationID:
			correlationID = h.Value
		case callHeader:
			call = h.Value
		}
	}
	return correlationID, call
}

// decodeStatus takes any code that gRPC libraries pass on, also those without a name. A number that is no code is UNKNOWN, as
// gRPC has it.
func decodeStatus(value []byte) (codes.Code, error) {
	n, err := strconv.ParseInt(string(value), 10, 32)
	switch {
	case err == nil && n >= 0:
		return codes.Code(n), nil
	case err == nil || errors.Is(err, strconv.ErrRange):
		return codes.Unknown, nil
	}
	return codes.Internal, fmt.Errorf("header %q: %q is not a gRPC status in decimal", statusHeader, clip(value))
}

// ValidStatus is a code that every reader takes: one that is no number of 31 bits, which gRPC libraries make of a negative one,
// is UNKNOWN.
func ValidStatus(c codes.Code) codes.Code {
	if c > math.MaxInt32 {
		return codes.Unknown
	}
	return c
}
