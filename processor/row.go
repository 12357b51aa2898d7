package processor

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/wire"
	"kafkagrpc/processor/rowpb"
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

func sameRequest(row *rowpb.Row, fingerprint []byte) bool {
	return bytes.Equal(row.Fingerprint, fingerprint)
}

// newRow is the row for the result of a call.
func (p *Processor) newRow(c *call, result grpcout.Result, finished time.Time) *rowpb.Row {
	state := rowpb.State_STATE_FINAL
	if slices.Contains(p.remote.Processing.RetryCodes, result.Status) {
		state = rowpb.State_STATE_RETRYABLE
	}
	row := &rowpb.Row{
		Version:       rowVersion,
		State:         state,
		Fingerprint:   c.fingerprint,
		Service:       text(c.request.Service),
		Method:        text(c.request.Method),
		CorrelationId: text(c.request.CorrelationID),
		Status:        int32(result.Status),
		Message:       text(result.Message),
		Metadata:      fields(wire.FromMD(result.Header)),
		Messages:      result.Messages,
		Trailers:      fields(wire.FromMD(result.Trailer)),
		Source: &rowpb.Source{
			Topic: c.source.topic, Partition: c.source.partition, Offset: c.source.offset,
			TimestampMs: c.source.timestamp.UnixMilli(),
		},
		Attempts:   uint32(result.Attempts),
		Target:     c.route.Target.Address,
		StartedMs:  c.started.UnixMilli(),
		FinishedMs: finished.UnixMilli(),
		ExpiresMs:  finished.Add(p.remote.Expiry).UnixMilli(),
	}
	if size := proto.Size(row); size > p.maxRow {
		row.Status = int32(codes.ResourceExhausted)
		row.Message = fmt.Sprintf("the service answered %d bytes, more than table.max-result allows (%d)", size, p.maxRow)
		row.Metadata, row.Messages, row.Trailers = nil, nil, nil
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
