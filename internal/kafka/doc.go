// Package kafka is how the rest of the program meets a Kafka cluster: sarama configurations whose settings are
// known to be safe, a producer, a tail of whole topics, and the check and creation of topics.
//
// It knows nothing of calls, rows, gRPC or YAML: it moves wire.Records and looks at no header of them. Of
// consumer groups there is only how they connect.
//
// sarama logs through a package variable, sarama.Logger, which discards by default and is left alone: what an
// operator must know is returned as an error or logged through the given slog.Logger.
package kafka
