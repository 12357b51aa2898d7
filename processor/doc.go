// Package processor is the consumer group of a kafka-grpc binding: a goka processor that is begun anew when it ends, with its topics, its
// table's local stores and standby copies, and what it tells of its state. What happens to a request is the job of package partition, and how
// records get to Kafka that of package outbox.
//
// goka joins the group, recovers the table, keeps standby copies, answers what rows there are, and has a goroutine for each partition, which alone
// touches the state of that partition. Rows are written there below goka, into the store and the topic that goka recovers them from: what goka does for
// each message is done once for a batch of deliveries. The package knows nothing of HTTP/2, TLS or the
// configuration file.
package processor
