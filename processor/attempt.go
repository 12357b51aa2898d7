package processor

import (
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/wire"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
)

// attempt is one request for the result of a key. Many attempts may ask for one key.
type attempt struct {
	request wire.Request
	record  wire.Record // as it was on its topic
	source  source
	replyTo string // one of the remote's outputs
	key     string // of the table

	// Known once the request is found callable.
	route       *topology.RemoteRoute
	message     []byte
	fingerprint []byte
}

// id names the attempt among those of its key: its own id, or the correlation id for writers without one.
func (a *attempt) id() string {
	if a.request.Call != "" {
		return a.request.Call
	}
	return a.request.CorrelationID
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
	trailers wire.Metadata
	attempts int // calls that were made for it
}

func outcomeOf(row *rowpb.Row) outcome {
	return outcome{
		status:   codes.Code(row.Status),
		message:  row.Message,
		metadata: metadataOf(row.Metadata),
		messages: row.Messages,
		trailers: metadataOf(row.Trailers),
		attempts: int(row.Attempts),
	}
}
