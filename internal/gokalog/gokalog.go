// Package gokalog turns the lines that goka logs, and the errors that it ends with, into ones that fit a log. It knows nothing
// of what they are about.
package gokalog

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/loglimit"
)

// interval is how often a line about an error is written again: goka writes one for each partition.
const interval = time.Second

// Logger is a logger for goka: lines about errors become warnings, the rest is for debugging. It is safe for concurrent use.
type Logger struct {
	log    *slog.Logger
	limits *loglimit.Kinds // by what goka says
}

// New makes a logger that writes to log.
func New(log *slog.Logger) Logger { return Logger{log, loglimit.NewKinds(interval)} }

func (l Logger) line(sentence, text string) {
	if !strings.Contains(strings.ToLower(text), "error") {
		l.log.Debug(text)
		return
	}
	if _, rest, ok := strings.Cut(sentence, "] "); ok {
		sentence = rest // goka has put before it which part of it speaks, and for which partition
	}
	l.limits.Of(sentence).Log(l.log, slog.LevelWarn, text)
}

// Print implements goka's logger.
func (l Logger) Print(args ...any) { l.line("", fmt.Sprint(args...)) }

// Println implements goka's logger.
func (l Logger) Println(args ...any) { l.line("", fmt.Sprint(args...)) }

// Printf implements goka's logger.
func (l Logger) Printf(format string, args ...any) {
	args = slices.Clone(args)
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i] = Brief(err)
		}
	}
	l.line(format, fmt.Sprintf(format, args...))
}
