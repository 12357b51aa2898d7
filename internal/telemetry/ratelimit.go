package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"
)

// RateLimit keeps a fault that repeats from filling the log: it lets one line through per interval, and counts the others.
// Safe for concurrent use.
type RateLimit struct {
	interval time.Duration

	mu   sync.Mutex
	next time.Time
	more int
}

// NewRateLimit lets one line through per interval.
func NewRateLimit(interval time.Duration) *RateLimit { return &RateLimit{interval: interval} }

// Allow reports whether to write a line, and if so how many were not written since the last one.
func (l *RateLimit) Allow(now time.Time) (more int, ok bool) {
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
func (l *RateLimit) Log(log *slog.Logger, level slog.Level, message string, attributes ...any) {
	if !log.Enabled(context.Background(), level) {
		return
	}
	if more, ok := l.Allow(time.Now()); ok {
		log.Log(context.Background(), level, message, append(attributes, "not_shown_before", more)...)
	}
}

// maxKinds bounds RateLimits. It is more than a program has to say.
const maxKinds = 200

// RateLimits are a RateLimit for each kind of fault: one that comes often must not hide another. Safe for concurrent use.
type RateLimits struct {
	interval time.Duration

	mu    sync.Mutex
	kinds map[string]*RateLimit
}

// NewRateLimits lets one line of each kind through per interval.
func NewRateLimits(interval time.Duration) *RateLimits {
	return &RateLimits{interval: interval, kinds: make(map[string]*RateLimit)}
}

// Of is the limit of a kind.
func (l *RateLimits) Of(kind string) *RateLimit {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.kinds[kind]
	if limit == nil {
		if len(l.kinds) >= maxKinds {
			kind = "others"
		}
		limit = cmp.Or(l.kinds[kind], NewRateLimit(l.interval))
		l.kinds[kind] = limit
	}
	return limit
}
