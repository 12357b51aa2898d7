// Package kafka is how the rest of the program meets a Kafka cluster: configurations of clients whose settings are
// known to be safe, a producer, the member of a consumer group, a tail of whole topics, readers, and the check and creation of topics.
//
// All that is written, read and asked goes through franz-go, which takes 0.6 of the CPU of sarama for a record, but for tables and views, which goka reads. A
// Cluster says the same to both.
// A group is a sarama.ConsumerGroup to those who have it, as goka wants one, but that its claims give batches of wire.Records; group.go begins with how it is one.
//
// It knows nothing of calls, rows, gRPC or YAML: it moves wire.Records and looks at no header of them. Which
// records are finished, and may be committed, it is told.
//
// sarama logs through a package variable, sarama.Logger, which discards by default and is left alone: what an
// operator must know is returned as an error or logged through the given slog.Logger. franz-go has no logger for the same reason.
package kafka
