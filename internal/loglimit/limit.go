// Package loglimit keeps faults that repeat from filling the log. It knows nothing of what they are.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Limit keeps a fault that repeats from filling the log: it lets one line through per interval, and counts the others.
// Safe for concurrent use.
type Limit struct {
	interval time.Duration

	mu   sync.Mutex
	next time.Time
	more int
}

// New lets one line through per interval.
func New(interval time.Duration) *Limit { return &Limit{interval: interval} }

// Allow reports whether to write a line, and if so how many were not written since the last one.
func (l *Limit) Allow(now time.Time) (more int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next) {
		l.more++
		return 0, false
	}
	more, l.more, l.next = l.more, 0, now.Add(l.interval)
	return more, true
}

// Log writes a line, unless there was one within the interval, and how many were left out since then. What is costly to
// say should be a slog.LogValuer.
func (l *Limit) Log(log *slog.Logger, level slog.Level, message string, attributes ...any) {
	if !log.Enabled(context.Background(), level) {
		return
	}
	if more, ok := l.Allow(time.Now()); ok {
		log.Log(context.Background(), level, message, append(attributes, "not_shown_before", more)...)
	}
}
