package partition

import (
	"fmt"
	"log/slog"
	"strings"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/wire"
)

// maxReason bounds the reason of a letter in bytes: it may repeat what a stranger wrote, and what is kept in place of a record that is too large
// has to fit.
const maxReason = 2000

// deadLetter keeps a record that cannot be answered, or was answered with the failure of all retries: key, value and
// headers as they were, and why. Of a record that does not fit the dead-letter topic only why and where it is are kept.
func (t *turn) deadLetter(a *attempt, cause deadletter.Cause, class string) {
	letter := t.letter(a, cause, class)
	t.send(t.config.Remote.Processing.DeadLetter, outbox.Record{Record: letter})
}

// letter is the dead letter of an attempt's record. It is safe for concurrent use.
// class is the reason as one of few, for the metrics and for who looks for letters.
func (b *Binding) letter(a *attempt, cause deadletter.Cause, class string) wire.Record {
	b.config.Telemetry.Metrics.DeadLetter(cause.Topic, class)
	if a.event != nil {
		cause.Key = knownKey(a)
	}
	topic := b.config.Remote.Processing.DeadLetter
	cause.Class = class
	if len(cause.Reason) > maxReason {
		cause.Reason = strings.ToValidUTF8(cause.Reason[:maxReason], "") + "..."
	}
	letter := deadletter.New(a.record, cause)
	if size, limit := kafka.Size(letter), b.config.Limits.Of(topic); size > limit {
		cause.Reason = fmt.Sprintf("%s; with these headers the record has %d bytes, more than this topic takes (%d): see its own topic", cause.Reason, size, limit)
		letter = deadletter.New(wire.Record{}, cause)
	}
	// Each is on the topic; a fault that repeats must not fill the log as well.
	b.repeats(slog.LevelWarn, class, "a record becomes a dead letter", a, "topic", topic, "reason", cause.Reason)
	return letter
}

const classExhausted = "retries_exhausted"

// keptLetter is a dead letter that is made beside an answer.
type keptLetter struct {
	cause deadletter.Cause
	class string
}

// exhausted is why a request becomes a dead letter although it was answered. The service's message is clipped: the letter
// must fit its topic.
func (c *call) exhausted(r grpcout.Result) *keptLetter {
	cause := c.source.cause(fmt.Sprintf("retries exhausted: %s %.1000s", r.Status, r.Message))
	cause.Code, cause.Attempts, cause.Partial = r.Status, r.Attempts, c.partial()
	return &keptLetter{cause, classExhausted}
}
