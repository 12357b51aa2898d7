package partition

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// Codec is the goka.Codec of the table, which goka reads. Decode gives a *rowpb.Row, or an UnreadableRow; it never fails, because a codec
// error would end goka's processor.
type Codec struct{}

// UnreadableRow stands for a row that cannot be decoded.
type UnreadableRow struct{ Err error }

// Encode implements goka.Codec. Rows are written by turns: it always fails.
func (Codec) Encode(any) ([]byte, error) {
	return nil, errors.New("partition: rows are not written through goka")
}

// Decode implements goka.Codec.
func (Codec) Decode(b []byte) (any, error) { return decodeRow(b), nil }

// decodeRow answers a *rowpb.Row, or an UnreadableRow.
func decodeRow(b []byte) any {
	row, err := rowpb.Decode(b)
	if err != nil {
		return UnreadableRow{err}
	}
	return row
}

// usable reports whether the row's result answers a further request of its key.
func usable(row *rowpb.Row, now time.Time) bool {
	return row != nil && row.State == rowpb.State_STATE_FINAL && now.UnixMilli() < row.ExpiresMs
}

// interrupted reports whether a reply had begun when the program that wrote it ended.
func interrupted(row *rowpb.Row, now time.Time) bool {
	return row != nil && row.State == rowpb.State_STATE_OPEN && now.UnixMilli() < row.ExpiresMs
}

// isRowOf reports whether the row is that of the attempt itself: of a stream, whose messages went out already, if it had any, or of an event, which
// is not executed again for having failed.
func isRowOf(row *rowpb.Row, a *attempt, now time.Time) bool {
	return row != nil && (row.Streamed || a.event != nil) && now.UnixMilli() < row.ExpiresMs &&
		row.Source.GetTopic() == a.source.topic && row.Source.GetPartition() == a.source.partition &&
		row.Source.GetOffset() == a.source.offset && row.Source.GetTimestampMs() == a.source.timestamp.UnixMilli()
}

// openingOf is the fingerprint of the first message of a row's request.
func openingOf(row *rowpb.Row) []byte {
	if len(row.Opening) > 0 {
		return row.Opening
	}
	return row.Fingerprint // of the only message
}

// newRow is the row for the result of a call.
func (b *Binding) newRow(c *call, done callReturns, finished time.Time) *rowpb.Row {
	result := done.result
	row := b.rowOf(c)
	row.State = rowpb.State_STATE_FINAL
	// Nobody asks again for an event that failed, but who replays it, for another result.
	if b.config.Caller.Retryable(result.Status) || done.callersOwn() || c.event != nil && result.Status != codes.OK {
		row.State = rowpb.State_STATE_RETRYABLE
	}
	row.Fingerprint = c.fingerprint()
	row.Status = int32(result.Status)
	row.Message = text(result.Message)
	row.Metadata = fields(wire.FromMD(result.Header))
	row.Messages = result.Messages
	row.Trailers = fields(wire.FromMD(result.Trailer))
	row.Attempts = uint32(result.Attempts)
	row.Target = cmp.Or(result.Address, row.Target)
	row.FinishedMs = finished.UnixMilli()
	row.ExpiresMs = finished.Add(b.rules.Load().remote.Expiry).UnixMilli()
	limit := b.rowLimit(c.beside)
	if s := c.stream; s != nil {
		row.Streamed = done.reply.flows
		row.HalfClosed = c.came == requestEnded
		row.MessageCount = uint32(done.reply.count)
		row.Messages = done.reply.messages
	}
	if size := proto.Size(row); size > limit.bytes {
		b.config.Limits.Doubt()
		if b.fit(c.attempt, row, limit.bytes) {
			return row
		}
		row.Status = int32(codes.ResourceExhausted)
		row.Message = fmt.Sprintf("the service answered %d bytes, more than %s", size, limit.owner)
		row.MessageCount = 0
		if c.event != nil {
			row.State = rowpb.State_STATE_RETRYABLE
		}
	}
	return row
}

// openRow is the row for a call whose reply begins.
func (b *Binding) openRow(c *call, now time.Time) *rowpb.Row {
	row := b.rowOf(c)
	row.State = rowpb.State_STATE_OPEN
	row.Streamed = true
	row.MessageCount = 1 // at least
	row.ExpiresMs = now.Add(b.rules.Load().remote.Expiry).UnixMilli()
	return row
}

// rowOf is what a row says of the request.
func (b *Binding) rowOf(c *call) *rowpb.Row {
	row := &rowpb.Row{
		Version:       rowpb.Version,
		Service:       text(c.request.Service),
		Method:        text(c.request.Method),
		CorrelationId: text(c.request.CorrelationID),
		Source: &rowpb.Source{
			Topic: c.source.topic, Partition: c.source.partition, Offset: c.source.offset,
			TimestampMs: c.source.timestamp.UnixMilli(),
		},
		Target:    c.route.Target.Address,
		StartedMs: c.started.UnixMilli(),
	}
	if span := telemetry.OwnOrCaller(c.execution(), c.request.Trace); span.IsValid() {
		row.TraceId, row.SpanId = span.TraceID().String(), span.SpanID().String()
	}
	if c.stream != nil {
		row.Opening = c.opening
	}
	return row
}

// text makes a protobuf string of what a stranger wrote: other bytes than UTF-8 cannot be encoded, which would end
// the processor.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func fields(m wire.Metadata) []*rowpb.Field {
	if len(m) == 0 {
		return nil
	}
	room := 0
	for _, f := range m {
		room += len(f.Value)
	}
	out, all, values := make([]*rowpb.Field, len(m)), make([]rowpb.Field, len(m)), make([]byte, 0, room)
	for i, f := range m {
		begin := len(values)
		values = append(values, f.Value...)
		out[i] = &all[i]
		out[i].Name, out[i].Value = f.Name, values[begin:len(values):len(values)]
	}
	return out
}

func metadataOf(fields []*rowpb.Field) wire.Metadata {
	if len(fields) == 0 {
		return nil
	}
	out := make(wire.Metadata, len(fields))
	for i, f := range fields {
		out[i] = wire.Field{Name: f.Name, Value: string(f.Value)}
	}
	return out
}
