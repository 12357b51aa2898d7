package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"kafkagrpc/internal/loglimit"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// errorInterval is how often the log says that exporting fails.
const errorInterval = 30 * time.Second

// sdkLog takes what the OpenTelemetry SDK has to say, which would go to standard error by itself, with the values of
// variables: those of headers and addresses may be secrets.
type sdkLog struct {
	log    *slog.Logger
	limits *loglimit.Kinds

	mu       sync.Mutex
	starting bool
	problems []error // while it starts
}

// takeErrors makes the SDK of the process speak to a log. Those of a collector that is gone would come with every batch.
func takeErrors(log *slog.Logger) *sdkLog {
	s := &sdkLog{log: log, limits: loglimit.NewKinds(errorInterval), starting: true}
	otel.SetLogger(logr.New(s))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		s.limits.Of("").Log(log, slog.LevelWarn, "exporting telemetry fails; what cannot be sent is lost", "error", err)
	}))
	return s
}

// started ends the start, and answers which variables could not be read in it.
func (s *sdkLog) started() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting = false
	return errors.Join(s.problems...)
}

// Error implements logr.LogSink.
func (s *sdkLog) Error(err error, message string, values ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.starting {
		problem := fmt.Errorf("the variables OTEL_*: %s%s: %w", message, named(values), withoutValue(err))
		// Each exporter reads them.
		if !slices.ContainsFunc(s.problems, func(known error) bool { return known.Error() == problem.Error() }) {
			s.problems = append(s.problems, problem)
		}
		return
	}
	s.limits.Of(message).Log(s.log, slog.LevelWarn, "OpenTelemetry: "+message+named(values), "error", withoutValue(err))
}

// Info implements logr.LogSink: it is for warnings.
func (s *sdkLog) Info(_ int, message string, values ...any) {
	s.limits.Of(message).Log(s.log, slog.LevelWarn, "OpenTelemetry: "+message+named(values))
}

// Init implements logr.LogSink.
func (s *sdkLog) Init(logr.RuntimeInfo) {}

// Enabled implements logr.LogSink. The SDK has warnings at level 1, and only tells how it is doing above.
func (s *sdkLog) Enabled(level int) bool { return level <= 1 }

// WithValues implements logr.LogSink.
func (s *sdkLog) WithValues(...any) logr.LogSink { return s }

// WithName implements logr.LogSink.
func (s *sdkLog) WithName(string) logr.LogSink { return s }

// named are those of the values that are no secrets.
func named(values []any) (text string) {
	for i := 0; i+1 < len(values); i += 2 {
		if name, _ := values[i].(string); slices.Contains([]string{"environment variable", "file", "name"}, name) {
			text += fmt.Sprintf(", %s %v", name, values[i+1])
		}
	}
	return text
}

// withoutValue is err without what it quotes.
func withoutValue(err error) error {
	var address *url.Error
	var escape url.EscapeError
	switch {
	case errors.As(err, &escape):
		return errors.New("a % begins no escape; write %25 for one")
	case errors.As(err, &address):
		return address.Err
	default:
		return err
	}
}
