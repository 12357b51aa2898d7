package processor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

const rowVersion = 1

// unreadableRow stands for a row that cannot be decoded. A codec error would end the processor.
type unreadableRow struct{ err error }

// rowCodec is the codec of the table.
type rowCodec struct{}

// Encode implements goka.Codec.
func (rowCodec) Encode(v any) ([]byte, error) {
	row, ok := v.(*rowpb.Row)
	if !ok {
		return nil, fmt.Errorf("processor: %T is not a row", v)
	}
	return proto.Marshal(row)
}

// Decode implements goka.Codec; it never fails.
func (rowCodec) Decode(b []byte) (any, error) {
	row := new(rowpb.Row)
	if err := proto.Unmarshal(b, row); err != nil {
		return unreadableRow{err}, nil
	}
	if row.Version != rowVersion {
		return unreadableRow{fmt.Errorf("row version %d, this program reads %d", row.Version, rowVersion)}, nil
	}
	return row, nil
}

// answers reports whether the row's result answers a further request of its key.
func answers(row *rowpb.Row, now time.Time) bool {
	return row != nil && row.State == rowpb.State_STATE_FINAL && now.UnixMilli() < row.ExpiresMs
}

// interrupted reports whether a reply had begun when the program that wrote it ended.
func interrupted(row *rowpb.Row, now time.Time) bool {
	return row != nil && row.State == rowpb.State_STATE_OPEN && now.UnixMilli() < row.ExpiresMs
}

// executed reports whether the row is that of the attempt itself, whose messages went out already, if it had any.
func executed(row *rowpb.Row, a *attempt, now time.Time) bool {
	return row != nil && row.Streamed && now.UnixMilli() < row.ExpiresMs &&
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
func (p *Processor) newRow(c *call, done completed, finished time.Time) *rowpb.Row {
	result := done.result
	row := p.rowOf(c)
	row.State = rowpb.State_STATE_FINAL
	if slices.Contains(p.remote.Processing.RetryCodes, result.Status) || done.end != nil && (done.end.own || done.end.lost != nil) {
		row.State = rowpb.State_STATE_RETRYABLE
	}
	row.Fingerprint = c.fingerprint()
	row.Status = int32(result.Status)
	row.Message = text(result.Message)
	row.Metadata = fields(wire.FromMD(result.Header))
	row.Messages = result.Messages
	row.Trailers = fields(wire.FromMD(result.Trailer))
	row.Attempts = uint32(result.Attempts)
	row.FinishedMs = finished.UnixMilli()
	row.ExpiresMs = finished.Add(p.remote.Expiry).UnixMilli()
	limit := p.rowLimit()
	if s := c.stream; s != nil {
		row.Streamed = done.reply.flows
		row.HalfClosed = s.ended && !s.canceled
		row.MessageCount = uint32(done.reply.count)
		row.Messages = done.reply.messages
	}
	if size := proto.Size(row); size > limit.bytes {
		p.limits.Doubt()
		if p.fit(c, row, limit.bytes) {
			return row
		}
		row.Status = int32(codes.ResourceExhausted)
		row.Message = fmt.Sprintf("the service answered %d bytes, more than %s", size, limit.owner)
		row.MessageCount = 0
	}
	return row
}

// openRow is the row for a call whose reply begins.
func (p *Processor) openRow(c *call, now time.Time) *rowpb.Row {
	row := p.rowOf(c)
	row.State = rowpb.State_STATE_OPEN
	row.Streamed = true
	row.MessageCount = 1 // at least
	row.ExpiresMs = now.Add(p.remote.Expiry).UnixMilli()
	return row
}

// rowOf is what a row says of the request.
func (p *Processor) rowOf(c *call) *rowpb.Row {
	row := &rowpb.Row{
		Version:       rowVersion,
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
	out := make([]*rowpb.Field, len(m))
	for i, f := range m {
		out[i] = &rowpb.Field{Name: f.Name, Value: []byte(f.Value)}
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
