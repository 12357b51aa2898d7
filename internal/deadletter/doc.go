// Package deadletter is what dead letters are: how a record that cannot be answered is kept on a dead-letter topic,
// and how it is found there, shown, edited, and sent to its request topic again.
//
// It knows nothing of why a record cannot be answered, of rows or of the consumer group: it writes and reads
// wire.Records. Everything in it but Replay and Topic is pure.
package deadletter
