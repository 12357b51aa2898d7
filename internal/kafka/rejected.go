package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Rejected tells the errors of a record that sending it again would not cure from those of a cluster that cannot
// be reached or is not able to write just now.
func Rejected(err error) bool {
	code, ok := errors.AsType[*kerr.Error](err)
	if !ok {
		return IsTooLarge(err)
	}
	switch code {
	case kerr.MessageTooLarge, kerr.InvalidTopicException, kerr.UnknownTopicOrPartition, kerr.TopicAuthorizationFailed,
		kerr.ClusterAuthorizationFailed, kerr.CorruptMessage, kerr.InvalidRecord, kerr.PolicyViolation:
		return true
	}
	return false
}

// Gone tells the errors of a topic that cannot be written at all, until somebody creates it or allows it.
func Gone(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.InvalidTopicException) ||
		errors.Is(err, kerr.TopicAuthorizationFailed)
}
