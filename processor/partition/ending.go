package partition

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcout"
)

// ending is why a call was ended here and not by the service.
type ending struct {
	status  codes.Code
	message string // "": what the call itself says

	// The attempt's own doing says nothing about the key: others that wait for it are not given this result.
	own bool
	// The reply found no topic: the request becomes a dead letter.
	lost error
	// An operator wants no further attempt.
	givenUp bool
	// A message of the reply does not fit its topic: the request becomes a dead letter, too.
	unfit error
}

func (e *ending) Error() string { return e.message }

var (
	errCanceled = &ending{status: codes.Canceled, message: "the caller cancelled the call", own: true}
	errLate     = &ending{status: codes.DeadlineExceeded, own: true}
	errIdle     = &ending{status: codes.DeadlineExceeded, own: true}
	errBlocking = &ending{status: codes.ResourceExhausted, message: "the stream was open for so long that too many requests behind it in its partition " +
		"could not be committed: end streams sooner, or give long ones a request topic of their own; use another idempotency key"}
	errSecond = &ending{status: codes.Internal, message: "the service answered more than one message to a method that answers one"}
)

// overstayed is for an open stream behind which more wait in line than may.
func overstayed(limit int64) *ending {
	return &ending{
		status: codes.ResourceExhausted,
		message: fmt.Sprintf("the stream was open while more than %d records, half of processing.max-in-flight, waited for it and other streams in their lines (processing.order): "+
			"end streams sooner, raise max-in-flight, or give streams a binding without an order; use another idempotency key", limit),
	}
}

// missing is for a stream whose next message Kafka did not take, but one behind it: that would be another request.
func missing(n int) *ending {
	return &ending{
		status:  codes.Unavailable,
		message: fmt.Sprintf("message %d of the request is missing in its topic: try again", n),
		own:     true,
	}
}

func idle(limit time.Duration) *ending {
	return &ending{
		status:  codes.DeadlineExceeded,
		message: fmt.Sprintf("no message came for %s (processing.stream-idle)", limit),
		own:     true,
	}
}

// endingOf tells whether a call was ended here; nil: the result is the service's, or of the way to it.
func (c *call) endingOf(ctx context.Context, r grpcout.Result) *ending {
	if r.Idle {
		return errIdle
	}
	if r.Status != codes.Canceled && r.Status != codes.DeadlineExceeded {
		return nil
	}
	switch ctx.Err() {
	case nil:
		// The service has the same deadline, and may be faster than the timer here.
		if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
			return errLate
		}
		return nil
	case context.DeadlineExceeded:
		return errLate
	}
	return c.ended.Load() // nil: the partition was given up
}
