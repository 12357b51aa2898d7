// Package restart runs what must go on until it is told to stop, and may end before by faults: it makes another attempt each time,
// after a wait that grows. It does not know what it runs, and nothing of what that needs but whether it is there.
package restart

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// askInterval is how often what is missing is asked for again.
const askInterval = time.Second

// Loop makes attempts, one after another. All of its fields are needed but LongestAfter, and its functions are called one at a time.
type Loop struct {
	Name  string // of what is run, for the log
	Log   *slog.Logger
	Level slog.Level // of the line about an attempt that has ended

	// The waits between two attempts: twice the last one, and from the first again after an attempt that was ready for the longest,
	// or when what is needed is back.
	First, Longest time.Duration

	// LongestAfter is the longest wait after an error; nil: Longest after all.
	LongestAfter func(ended error) time.Duration

	// Needed answers what an attempt cannot do without, and is not there. It ends with its context.
	Needed func(context.Context) error

	// Ended is told why the last attempt has ended, and when there is another; again whenever something that is needed is missing,
	// with that in the error, and with the time of the next question.
	Ended func(err error, next time.Time)
}

// Run makes attempts until ctx ends. Each answers for how long it was ready. Before the next one Run waits for some time, or where
// something that is needed is missing, until it is back and no longer: then it was that which has ended the attempt, and not a fault that
// would come again.
func (l Loop) Run(ctx context.Context, attempt func(context.Context) (ready time.Duration, err error)) {
	for wait := l.First; ; {
		ready, err := attempt(ctx)
		if ctx.Err() != nil {
			if err != nil {
				l.Log.Warn("the "+l.Name+" did not stop in order", "error", err)
			}
			return
		}
		if err == nil {
			err = errors.New("it stopped without an error")
		}
		if ready >= l.Longest {
			wait = l.First
		}
		if l.LongestAfter != nil {
			wait = min(wait, l.LongestAfter(err))
		}
		l.Log.Log(ctx, l.Level, "the "+l.Name+" ended, another one follows", "error", err, "wait", wait)
		l.Ended(err, time.Now().Add(wait))
		missed := false
		there := Await(ctx, l.Needed, func(missing error) {
			missed = true
			l.Ended(fmt.Errorf("%w; now: %w", err, missing), time.Now().Add(askInterval))
		})
		if !there || !missed && !Pause(ctx, wait) {
			return
		}
		if wait = min(2*wait, l.Longest); missed {
			wait = l.First
		}
	}
}

// Await asks every second until needed answers nil, and tells each other answer. It reports whether that has come before the end of ctx.
func Await(ctx context.Context, needed func(context.Context) error, tell func(missing error)) bool {
	for {
		err := needed(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		tell(err)
		if !Pause(ctx, askInterval) {
			return false
		}
	}
}

// Pause waits, and reports whether it was not ctx that ended that.
func Pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
