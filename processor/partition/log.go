package partition

import (
	"log/slog"
	"time"

	"kafkagrpc/internal/telemetry"
)

// logInterval is how often a fault that repeats with every record is logged.
const logInterval = time.Second

// repeats writes a line that may come with every record, but not more often than one of its kind per logInterval.
func (b *Binding) repeats(level slog.Level, kind, message string, a *attempt, attributes ...any) {
	b.logged.Of(kind).Log(b.config.Log, level, message, append([]any{slog.Any("", a)}, attributes...)...)
}

// maxLogged is what a line says at most of a name that a stranger chose.
const maxLogged = 1 << 10

// LogValue implements slog.LogValuer. It is what each line about the attempt says of it.
func (a *attempt) LogValue() slog.Value {
	var all []slog.Attr
	add := func(name, value string) {
		if value != "" {
			all = append(all, slog.String(name, text(value[:min(len(value), maxLogged)])))
		}
	}
	add("key", a.key)
	add("correlation_id", a.request.CorrelationID)
	add("source", a.source.String())
	if span := telemetry.OwnOrCaller(a.execution(), a.request.Trace); span.IsValid() {
		add("trace_id", span.TraceID().String())
	}
	return slog.GroupValue(all...)
}
