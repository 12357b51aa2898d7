package partition

import (
	"google.golang.org/grpc/codes"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

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
