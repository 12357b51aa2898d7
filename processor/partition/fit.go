package partition

import (
	"log/slog"

	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// fieldSize is more than an entry of metadata takes of a row, and of the headers of a record.
func fieldSize(f wire.Field) int {
	const framing = 32
	return len(f.Name) + len(f.Value)*4/3 + framing
}

// within is the outcome in so many bytes, if its messages let it: without the largest entries of its metadata and trailers, and
// with the begin of its message where even that is too long. left counts what is missing.
func (o outcome) within(most int) (_ outcome, left int, ok bool) {
	const framing = 16 // of a field of a row
	for _, m := range o.messages {
		most -= len(m) + framing
	}
	message, size := wire.ClipMessage(o.message, most-framing)
	if most -= size + framing; most < 0 {
		return o, 0, false
	}
	if message != o.message {
		left++
	}
	o.message = message
	metadata, less := o.metadata.Within(most, fieldSize)
	for _, f := range metadata {
		most -= fieldSize(f)
	}
	trailers, fewer := o.trailers.Within(most, fieldSize)
	o.metadata, o.trailers = metadata, trailers
	return o, left + less + fewer, true
}

// fit makes a row with its result no larger than limit, which is the table's. It reports false, and leaves none, where its messages alone are larger.
// Those of a stream are out already, and are not kept then.
func (b *Binding) fit(a *attempt, row *rowpb.Row, limit int) bool {
	whole := outcomeOf(row)
	row.Message, row.Metadata, row.Messages, row.Trailers = "", nil, nil, nil
	most := limit - proto.Size(row)
	o, left, ok := whole.within(most)
	if !ok && row.Streamed {
		whole.messages = nil
		o, left, ok = whole.within(most)
	}
	if !ok {
		return false
	}
	if left > 0 {
		b.clipped(a, left, limit)
	}
	row.Message, row.Metadata, row.Messages, row.Trailers = o.message, fields(o.metadata), o.messages, fields(o.trailers)
	return true
}

// maxReply is what a reply record has room for beside what it repeats of its request, as header and as key.
func (b *Binding) maxReply(topic string) int {
	return b.config.Limits.Of(topic) - 2*maxIdentity - recordOverhead
}

// clipped tells that a result is not answered in full.
func (b *Binding) clipped(a *attempt, left, most int) {
	b.repeats(slog.LevelWarn, "clipped", "a result is cut: its metadata, trailers, or status message are too large for the table or the reply topic", a,
		"left_out", left, "limit", most)
}
