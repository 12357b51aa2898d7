// Package gokalog turns the lines that goka logs into log records. It knows nothing of what they are about.
package gokalog

import (
	"fmt"
	"log/slog"
	"strings"
)

// Logger is a logger for goka: lines about errors become warnings, the rest is for debugging. It is safe for concurrent use.
type Logger struct{ log *slog.Logger }

// New makes a logger that writes to log.
func New(log *slog.Logger) Logger { return Logger{log} }

func (l Logger) line(text string) {
	if strings.Contains(strings.ToLower(text), "error") {
		l.log.Warn(text)
		return
	}
	l.log.Debug(text)
}

func (l Logger) Print(args ...any)                 { l.line(fmt.Sprint(args...)) }
func (l Logger) Println(args ...any)               { l.line(fmt.Sprint(args...)) }
func (l Logger) Printf(format string, args ...any) { l.line(fmt.Sprintf(format, args...)) }
