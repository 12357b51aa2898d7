// Package outbox is the way of rows, replies and dead letters to Kafka. Where a reply topic is gone while the program runs, what goes there becomes a dead letter of its request, so that the other routes
// go on; and nothing is sent while the partitions may have another owner. The package knows nothing of requests, calls and rows.
package outbox
