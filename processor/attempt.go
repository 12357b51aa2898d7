package processor

import (
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// attempt is one request for the result of a key. Many attempts may ask for one key.
type attempt struct {
	observed
	part     *partition // where it is, or is passed on from
	request  wire.Request
	method   string      // of the request, as package.Service/Method
	record   wire.Record // the first one, as it was on its topic
	delivery *consumergroup.Delivery
	topic    string // that it was read from: a request topic, or the loop topic
	source   source
	replyTo  string // one of the remote's outputs
	key      string // of the table

	// Known once the request is found callable.
	route   *topology.RemoteRoute
	message []byte
	opening []byte  // fingerprint of method and first message
	stream  *stream // nil where one message is the whole request
}

// attemptID names an attempt among those in flight: by its own id, where its writer knows of one, and the correlation id. All
// its records are read from one topic; those that have to go through the loop topic first belong to none before.
type attemptID struct{ topic, correlation, call string }

func (a *attempt) id() attemptID { return attemptID{a.topic, a.request.CorrelationID, a.request.Call} }

// fingerprint tells the request, as far as it is known, from another one under the same key.
func (a *attempt) fingerprint() []byte {
	if a.stream == nil {
		return a.opening
	}
	return a.stream.fingerprint.sum()
}

// partial reports whether the attempt's first record may not be its whole request.
func (a *attempt) partial() bool {
	return a.stream != nil && (a.stream.messages > 1 || !a.stream.ended)
}

func (a *attempt) late(now time.Time) bool {
	return !a.request.Deadline.IsZero() && !now.Before(a.request.Deadline)
}

// outcome is what an attempt is answered with: a stored result, or a verdict of ours.
type outcome struct {
	status   codes.Code
	message  string
	metadata wire.Metadata
	messages [][]byte
	count    int // of the messages, also when they are out or not kept
	trailers wire.Metadata
	attempts int // calls that were made for it

	lost       bool   // the messages were not kept
	halfClosed bool   // the whole request counts, by its fingerprint
	whole      []byte // the fingerprint
}

func outcomeOf(row *rowpb.Row) outcome {
	return outcome{
		status:     codes.Code(row.Status),
		message:    row.Message,
		metadata:   metadataOf(row.Metadata),
		messages:   row.Messages,
		count:      max(len(row.Messages), int(row.MessageCount)),
		trailers:   metadataOf(row.Trailers),
		attempts:   int(row.Attempts),
		lost:       int(row.MessageCount) > len(row.Messages),
		halfClosed: row.HalfClosed,
		whole:      row.Fingerprint,
	}
}

// endOf is the outcome for the attempt that was executed, whose messages went out already.
func endOf(row *rowpb.Row) outcome {
	o := outcomeOf(row)
	if row.MessageCount > 0 {
		o.metadata = nil // it was on them
	}
	return o.end()
}

// end is what is left of an outcome when its messages are out.
func (o outcome) end() outcome {
	if len(o.messages) > 0 {
		o.metadata = nil
	}
	o.messages, o.lost, o.halfClosed = nil, false, false
	return o
}
