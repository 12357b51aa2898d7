// Package gokalog turns the lines that goka logs, and the errors that it ends with, into ones that fit a log. It knows nothing
// of what they are about.
package gokalog

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"kafkagrpc/internal/telemetry"
)

// interval is how often a line about an error is written again: goka writes one for each partition.
const interval = time.Second

// Logger is a logger for goka: lines about errors become warnings, the rest is for debugging. It is safe for concurrent use.
type Logger struct {
	log *slog.Logger

	mu     sync.Mutex
	limits map[string]*telemetry.RateLimit // by what goka says; it has some 20 sentences
}

// New makes a logger that writes to log.
func New(log *slog.Logger) *Logger {
	return &Logger{log: log, limits: make(map[string]*telemetry.RateLimit)}
}

func (l *Logger) line(sentence, text string) {
	if !strings.Contains(strings.ToLower(text), "error") {
		l.log.Debug(text)
		return
	}
	l.limit(sentence).Log(l.log, slog.LevelWarn, text)
}

func (l *Logger) limit(sentence string) *telemetry.RateLimit {
	if _, rest, ok := strings.Cut(sentence, "] "); ok {
		sentence = rest // goka has put before it which part of it speaks, and for which partition
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.limits[sentence]
	if limit == nil {
		limit = telemetry.NewRateLimit(interval)
		l.limits[sentence] = limit
	}
	return limit
}

// Print implements goka's logger.
func (l *Logger) Print(args ...any) { l.line("", fmt.Sprint(args...)) }

// Println implements goka's logger.
func (l *Logger) Println(args ...any) { l.line("", fmt.Sprint(args...)) }

// Printf implements goka's logger.
func (l *Logger) Printf(format string, args ...any) {
	args = slices.Clone(args)
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i] = Brief(err)
		}
	}
	l.line(format, fmt.Sprintf(format, args...))
}
