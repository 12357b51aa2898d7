// Package outbox is the producer that goka writes through: rows of the table as they are, everything else as whole records.
// Where a reply topic is gone while the program runs, what goes there becomes a dead letter of its request, so that the other routes
// go on; and nothing is sent while the partitions may have another owner. The package knows nothing of requests, calls and rows.
package outbox
