package processor

import (
	"fmt"
	"log/slog"

	"github.com/lovoo/goka"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// deadLetter keeps a record that cannot be answered, or was answered with the failure of all retries: key, value and
// headers as they were, and why. Of a record that does not fit the dead-letter topic only why and where it is are kept.
func (p *Processor) deadLetter(ctx goka.Context, a *attempt, cause deadletter.Cause, class string) {
	letter := p.letter(a, cause, class)
	ctx.Emit(goka.Stream(p.remote.Processing.DeadLetter), string(letter.Key), letter)
}

// letter is the dead letter of an attempt's record. It is safe for concurrent use.
// class is the reason as one of few, for the metrics.
func (p *Processor) letter(a *attempt, cause deadletter.Cause, class string) wire.Record {
	p.telemetry.Metrics.DeadLetter(cause.Topic, class)
	topic := p.remote.Processing.DeadLetter
	letter := deadletter.New(a.record, cause)
	if size, limit := kafka.Size(letter), p.limits.Of(topic); size > limit {
		cause.Reason = fmt.Sprintf("%s; with these headers the record has %d bytes, more than this topic takes (%d): see its own topic", cause.Reason, size, limit)
		letter = deadletter.New(wire.Record{}, cause)
	}
	// Each is on the topic; a fault that repeats must not fill the log as well.
	p.repeats(slog.LevelWarn, class, "a record becomes a dead letter", a, "topic", topic, "reason", cause.Reason)
	return letter
}

// cause is why the record at s becomes a dead letter, without a call.
func (s source) cause(reason string) deadletter.Cause {
	return deadletter.Cause{Reason: reason, Topic: s.topic, Partition: s.partition, Offset: s.offset, Timestamp: s.timestamp}
}
