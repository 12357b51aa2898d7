// Package wire is the record contract: how a gRPC call and its answer are written as Kafka records, and how
// they are read back. Header names and order, metadata, the correlation id, the key of the state table, the
// partition of a key, statuses and the progress of a fetched topic are all decided here and nowhere else.
//
// It knows nothing of Kafka clients, sockets, configuration files or the table: it turns values into headers
// and back. Everything in it is pure and safe for concurrent use.
package wire

// What the configuration cannot rename.
const (
	statusHeader   = "zilla:status"
	messageHeader  = "zilla:message"
	metadataPrefix = "meta:"
)

// Our own headers, which other readers of the contract ignore.
const (
	callHeader        = "grpc:call"
	numberHeader      = "grpc:message"
	deadlineHeader    = "grpc:deadline"
	canceledHeader    = "grpc:canceled"
	traceParentHeader = "traceparent"
	traceStateHeader  = "tracestate"
	baggageHeader     = "baggage"
	trailerPrefix     = "trailer:"
)

// Contract is what a configuration may change about the records of its topics. The zero value has no header
// names and is of no use: start from [DefaultContract].
type Contract struct {
	Service       string // header with "package.Service", default zilla:service
	Method        string // header with the bare method name, default zilla:method
	ReplyTo       string // header with the reply topic, default zilla:reply-to
	CorrelationID string // header with the correlation id, default zilla:correlation-id

	IdempotencyMetadata string   // metadata that holds the caller's key, default idempotency-key
	AllowMetadata       []string // of authorization and cookie, those that may be stored in Kafka; default none
}

// DefaultContract is the contract of a file that changes nothing.
func DefaultContract() Contract {
	return Contract{
		Service:             "zilla:service",
		Method:              "zilla:method",
		ReplyTo:             "zilla:reply-to",
		CorrelationID:       "zilla:correlation-id",
		IdempotencyMetadata: "idempotency-key",
	}
}

// Trace is the W3C trace context of the span that produced a record, and the W3C baggage; empty where there is none.
type Trace struct {
	Parent  string // traceparent
	State   string // tracestate
	Baggage string
}
