package loglimit

import (
	"cmp"
	"sync"
	"time"
)

// maxKinds bounds Kinds. It is more than a program has to say.
const maxKinds = 200

// Kinds are a Limit for each kind of fault: one that comes often must not hide another. Safe for concurrent use.
type Kinds struct {
	interval time.Duration

	mu    sync.Mutex
	kinds map[string]*Limit
}

// NewKinds lets one line of each kind through per interval.
func NewKinds(interval time.Duration) *Kinds {
	return &Kinds{interval: interval, kinds: make(map[string]*Limit)}
}

// Of is the limit of a kind.
func (l *Kinds) Of(kind string) *Limit {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.kinds[kind]
	if limit == nil {
		if len(l.kinds) >= maxKinds {
			kind = "others"
		}
		limit = cmp.Or(l.kinds[kind], New(l.interval))
		l.kinds[kind] = limit
	}
	return limit
}
