package processor

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/lovoo/goka"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/wire"
)

// The headers that a dead letter carries behind the record's own.
const (
	headerErrorReason    = "kafkagrpc.error.reason"
	headerErrorTopic     = "kafkagrpc.error.topic"
	headerErrorPartition = "kafkagrpc.error.partition"
	headerErrorOffset    = "kafkagrpc.error.offset"
	headerErrorTimestamp = "kafkagrpc.error.timestamp" // of the record, Unix milliseconds

	// Where the service was called in vain.
	headerErrorCode     = "kafkagrpc.error.code"     // the last status, decimal
	headerErrorAttempts = "kafkagrpc.error.attempts" // calls that were made
)

// deadLetter keeps a record that cannot be answered, or was answered with the failure of all retries: key, value and headers as they were, and why. Of a record that
// does not fit the dead-letter topic only why and where it is are kept.
func (p *Processor) deadLetter(ctx goka.Context, r wire.Record, s source, reason string, more ...wire.Header) {
	topic := p.remote.Processing.DeadLetter
	letter := wire.Record{Key: r.Key, Value: r.Value, Headers: slices.Concat(r.Headers, errorHeaders(s, reason), more)}
	if size := kafka.Size(letter); size > p.maxRecord {
		reason = fmt.Sprintf("%s; with these headers the record has %d bytes, more than this topic takes (%d): see its own topic", reason, size, p.maxRecord)
		letter = wire.Record{Headers: append(errorHeaders(s, reason), more...)}
	}
	p.log.Warn("a record becomes a dead letter", "source", s, "reason", reason, "topic", topic)
	ctx.Emit(goka.Stream(topic), string(letter.Key), letter)
}

func errorHeaders(s source, reason string) []wire.Header {
	return []wire.Header{
		{Name: headerErrorReason, Value: []byte(reason)},
		{Name: headerErrorTopic, Value: []byte(s.topic)},
		{Name: headerErrorPartition, Value: strconv.AppendInt(nil, int64(s.partition), 10)},
		{Name: headerErrorOffset, Value: strconv.AppendInt(nil, s.offset, 10)},
		{Name: headerErrorTimestamp, Value: strconv.AppendInt(nil, s.timestamp.UnixMilli(), 10)},
	}
}
