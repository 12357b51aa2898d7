package consumergroup

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// freeze finds out that the process stood still (SIGSTOP, a suspended machine, a paused container) for so long
// that the group may have given its partitions away. Such a process goes on where it was, and believes that it owns
// them, until the answer to its next heartbeat.
//
// One goroutine notes the time again and again. A note that is too old says so from the first moment after
// the freeze, before that goroutine runs again; a gap between two notes says so for the time that the heartbeat needs.
type freeze struct {
	limit  time.Duration // how old a note may be
	settle time.Duration // what the heartbeat gets
	log    *slog.Logger

	note  atomic.Pointer[time.Time] // nil while nobody notes the time
	until atomic.Pointer[time.Time] // suspect before this
}

// watch notes the time until ctx ends.
func (f *freeze) watch(ctx context.Context) {
	defer f.note.Store(nil)
	tick := time.NewTicker(f.limit / 10)
	defer tick.Stop()
	for {
		f.noteTime(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (f *freeze) noteTime(now time.Time) {
	if last := f.note.Load(); last != nil {
		if gap := apart(*last, now); gap > f.limit {
			until := now.Add(f.settle)
			f.until.Store(&until) // before the note, so that no moment looks unsuspicious
			f.log.Warn("the process stood still: nothing is done until the group has said whether its partitions are still its own",
				"for", gap.Round(time.Millisecond), "wait", f.settle)
		}
	}
	f.note.Store(&now)
}

// left is how long to do nothing from now on; 0 in ordinary times.
func (f *freeze) left() time.Duration {
	last := f.note.Load()
	if last == nil {
		return 0
	}
	now := time.Now()
	if apart(*last, now) > f.limit {
		return f.settle
	}
	if until := f.until.Load(); until != nil {
		return max(0, until.Sub(now))
	}
	return 0
}

// apart is the time between two moments by the clock that saw more of it: the monotonic one stands still while
// the machine is suspended, and the other one may be set back.
func apart(a, b time.Time) time.Duration { return max(b.Sub(a), b.Round(0).Sub(a.Round(0))) }

// watched runs the watch of a group, if it has one, until stop is called, which waits for its end: claims are
// drained, and must be watched, after ctx has ended.
func (f *freeze) watched(ctx context.Context) (stop func()) {
	if f.settle == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(ctx) })
	return func() {
		cancel()
		watching.Wait()
	}
}
