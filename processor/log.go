package processor

import (
	"log/slog"
	"time"

	"kafkagrpc/internal/telemetry"
)

// logInterval is how often a fault that repeats with every record is logged.
const logInterval = time.Second

// repeats limits the lines that may come with every record. Each has a limit of its own: one that comes often must not
// hide another.
type repeats struct{ letters, rows, replies, lost, parked *telemetry.RateLimit }

func newRepeats() repeats {
	limit := func() *telemetry.RateLimit { return telemetry.NewRateLimit(logInterval) }
	return repeats{letters: limit(), rows: limit(), replies: limit(), lost: limit(), parked: limit()}
}

// maxLogged is what a line says at most of a name that a stranger chose.
const maxLogged = 1 << 10

// named is what each line about the attempt says of it. It costs nothing where the line is not written.
func (a *attempt) named() slog.Attr { return slog.Any("", a) }

// LogValue implements slog.LogValuer.
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
	if id := telemetry.TraceID(a.execution(), a.request.Trace); id.IsValid() {
		add("trace_id", id.String())
	}
	return slog.GroupValue(all...)
}
