package consumergroup

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// ErrStoodStill is what Consume ends with when the process stood still for half of the session time-out or longer.
var ErrStoodStill = errors.New("the process stood still for so long that its partitions may have another owner")

// freeze finds out that the process stood still (SIGSTOP, a suspended machine, a paused container) for so long
// that the group may have given its partitions away. Such a process goes on where it was, and believes that it owns
// them, until the answer to its next heartbeat, which may take any time. So the group does not wait for it: from the
// first moment after the freeze nothing is delivered and Stalled says so, for good, and Consume ends.
//
// One goroutine notes the time again and again. A note that is too old tells of the freeze before that goroutine runs
// again.
type freeze struct {
	limit time.Duration // how old a note may be
	log   *slog.Logger

	note  atomic.Pointer[time.Time] // nil while nobody notes the time
	stood atomic.Bool
}

// remember notes the time. Whoever does so asks found first.
func (f *freeze) remember() {
	now := time.Now()
	f.note.Store(&now)
}

// forget ends the notes.
func (f *freeze) forget() { f.note.Store(nil) }

// found reports whether the process has stood still since Consume began.
func (f *freeze) found() bool {
	if f.stood.Load() {
		return true
	}
	last := f.note.Load()
	if last == nil {
		return false
	}
	gap := apart(*last, time.Now())
	if gap <= f.limit {
		return false
	}
	if f.stood.CompareAndSwap(false, true) {
		f.log.Warn("the process stood still: its partitions may have another owner, so it gives them up and joins the group anew",
			"for", gap.Round(time.Millisecond))
	}
	return true
}

// apart is the time between two moments by the clock that saw more of it: the monotonic one stands still while
// the machine is suspended, and the other one may be set back.
func apart(a, b time.Time) time.Duration { return max(b.Sub(a), b.Round(0).Sub(a.Round(0))) }
