// Package processor is the consumer group of a kafka-grpc binding: a goka processor that is begun anew when it ends, with its topics, its
// table's local stores and standby copies, and what it tells of its state. What happens to a request is the job of package partition, and how
// records get to Kafka that of package outbox.
//
// All state of a partition is touched by one goroutine, goka's partition processor. The package knows nothing of HTTP/2, TLS or the
// configuration file.
package processor
