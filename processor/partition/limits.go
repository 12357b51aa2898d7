package partition

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
)

// maxIdentity bounds what a reply and a row repeat of the request's own headers, so that both always fit their topics.
const maxIdentity = 16 << 10

const classIdentity = "identity_too_large"

// recordOverhead is more than the framing of a record takes, and the fixed fields of a row.
const recordOverhead = 1 << 10

// minRecord is what every topic that is written must take: a verdict of ours, percent-encoded, repeats the identity
// up to three times, and one that does not fit would end the processor.
const minRecord = 4 * maxIdentity

// Limits tells what is wrong with what the written topics of a binding take: that of which it cannot run, and that of which
// some calls are refused. Topics that limits does not know are to be made yet.
func Limits(remote topology.Remote, limits *kafka.Limits, written []string) (problems []error, warnings []string) {
	for _, topic := range written {
		if limit := limits.Of(topic); limit < minRecord {
			problems = append(problems, fmt.Errorf("topic %s takes records of %d bytes, which is too small for some replies and rows: raise its max.message.bytes to %d or more",
				topic, limit, 2*minRecord))
		}
	}
	if len(problems) > 0 {
		return problems, nil
	}
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	for _, topic := range append([]string{remote.Table}, remote.Outputs()...) {
		if limit := limits.Of(topic) - maxIdentity - recordOverhead; limit < remote.MaxResult {
			warn("table.max-result (%d) is more than topic %s has room for (%d), so that results between them are answered RESOURCE_EXHAUSTED: raise its max.message.bytes by %d",
				remote.MaxResult, topic, limit, remote.MaxResult-limit)
		}
	}
	for _, topic := range remote.Inputs() {
		for _, own := range []struct{ topic, instead string }{
			{remote.Loop, "larger requests whose record key is not their idempotency key are answered RESOURCE_EXHAUSTED"},
			{remote.Processing.DeadLetter, "of larger requests a dead letter says only why and where they are"},
		} {
			if most, limit := limits.Of(topic), limits.Of(own.topic); limit < most && limits.Know(own.topic) {
				warn("topic %s takes records of %d bytes, fewer than request topic %s (%d), so that %s: raise its max.message.bytes by %d",
					own.topic, limit, topic, most, own.instead, most-limit)
			}
		}
	}
	return nil, warnings
}

// rowLimit is how large a row may be.
type rowLimit struct {
	bytes int
	owner string // whose limit it is, and what to do for larger ones
}

// rowLimit is that of now, of a row with so many bytes beside its result: what the table topic takes may change.
func (b *Binding) rowLimit(beside int) rowLimit {
	table := b.config.Limits.Of(b.config.Remote.Table) - maxIdentity - recordOverhead - beside
	most := b.rules.Load().remote.MaxResult
	if most <= table {
		return rowLimit{most, fmt.Sprintf("table.max-result allows (%d): raise it", most)}
	}
	return rowLimit{table, fmt.Sprintf("topic %s can hold of table.max-result (%d of %d): raise its max.message.bytes", b.config.Remote.Table, table, most)}
}

// rewrite writes a row again that was read: after a crash the local copy of it may be ahead of the changelog. Where the
// table topic was lowered below it since, it stays as it is: what cannot be written would end the processor, again and again.
func (t *turn) rewrite(key string, row *rowpb.Row) {
	if proto.Size(row)+len(key)+recordOverhead <= t.config.Limits.Of(t.config.Remote.Table) {
		t.setRow(key, row)
	}
}
