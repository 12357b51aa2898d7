package kafka

import (
	"errors"

	"github.com/IBM/sarama"
)

// Rejected tells the errors of a record that sending it again would not cure from those of a cluster that cannot
// be reached or is not able to write just now.
func Rejected(err error) bool {
	var code sarama.KError
	if errors.As(err, &code) {
		switch code {
		case sarama.ErrMessageSizeTooLarge, sarama.ErrInvalidTopic, sarama.ErrUnknownTopicOrPartition,
			sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrInvalidMessage,
			sarama.ErrInvalidRecord, sarama.ErrPolicyViolation:
			return true
		}
		return false
	}
	var configuration sarama.ConfigurationError // what sarama refuses by itself
	return errors.As(err, &configuration) || IsTooLarge(err)
}

// Gone tells the errors of a topic that cannot be written at all, until somebody creates it or allows it.
func Gone(err error) bool {
	return errors.Is(err, sarama.ErrUnknownTopicOrPartition) || errors.Is(err, sarama.ErrInvalidTopic) ||
		errors.Is(err, sarama.ErrTopicAuthorizationFailed)
}
