package outbox

import "kafkagrpc/wire"

// Record is a record to send, and what becomes of it where its topic is gone. Without Reply and Lost it ends goka's processor then, as a row of
// the table does.
type Record struct {
	wire.Record

	// Reply is what the record is a part of: all of it is written, or becomes one dead letter. nil: it stands alone.
	Reply *Reply

	// Lost is called in place of writing a record that stands alone; it counts as acknowledged then. Safe for concurrent use.
	Lost func(error)
	Pin  *wire.Pin // of one without Reply: keeps it in one partition with others

	// Committed is told of the end of the transaction, as by kafka.Producer.SendCommitted; nil: nobody asks. Only of one without Reply and Lost.
	Committed func(error)
	// Sent is called when Kafka has a record of a Reply, or has refused it; nil: nobody asks. It must not wait.
	Sent func(partition int32, offset int64, err error)
}
