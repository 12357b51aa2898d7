package consumergroup

import (
	"context"
	"errors"

	"github.com/IBM/sarama"
)

// standing is what the end of a session means for the partitions of the member.
type standing int

const (
	owned     standing = iota // until the member joins the next generation or leaves
	uncertain                 // the coordinator cannot be reached: owned until the session times out there
	lost                      // another member may own them already
)

// ownership reads the cause with which the group below ended a session; nil for a session that goes on, or a group that is
// being closed, while the messages of one of its claims have ended.
func ownership(cause error) standing {
	if cause == nil {
		return owned
	}
	for _, gone := range []error{sarama.ErrUnknownMemberId, sarama.ErrIllegalGeneration, sarama.ErrFencedInstancedId} {
		if errors.Is(cause, gone) {
			return lost
		}
	}
	for _, orderly := range []error{
		context.Canceled, sarama.ErrRebalanceInProgress,
		sarama.ErrSessionPartitionCountChanged, sarama.ErrSessionConsumeClaimExited,
	} {
		if errors.Is(cause, orderly) {
			return owned
		}
	}
	return uncertain
}
