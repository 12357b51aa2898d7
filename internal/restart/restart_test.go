package restart_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/restart"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	first    = time.Second
	longest  = 30 * time.Second
	shorter  = 5 * time.Second // the longest after errDisk
	interval = time.Second     // between two questions for what is missing
)

var (
	errFault = errors.New("a fault")
	errDisk  = errors.New("the disk is full")
	errGone  = errors.New("no broker")
)

func longestAfter(ended error) time.Duration {
	if errors.Is(ended, errDisk) {
		return shorter
	}
	return longest
}

// After a network cut the next attempt begins when Kafka answers, and not when a back-off ends that the cut has made long.
func TestWaitEndsWhenWhatWasMissingIsBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		silent int // questions that are not answered
		first  time.Duration
		takes  time.Duration
		next   time.Duration // of an attempt that ends at once, too
	}{
		{"it was there throughout", 0, longest, longest, longest},
		{"a short outage", 1, longest, interval, longest},
		{"a longer one than the wait", 20, first, 20 * interval, first},
		{"the wait doubles without one", 0, first, first, 2 * first},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				begun, asked, attempts := time.Now(), 0, 0
				var reported error
				restart.Loop{
					Name: "test", Log: slog.New(slog.DiscardHandler), First: test.first, Longest: longest,
					Needed: func(context.Context) error {
						if attempts > 1 {
							return nil
						}
						if asked++; asked <= test.silent {
							return errGone
						}
						if !errors.Is(reported, errFault) || errors.Is(reported, errGone) != (test.silent > 0) {
							t.Errorf("%v was reported", reported)
						}
						return nil
					},
					Ended: func(err error, _ time.Time) { reported = err },
				}.Run(ctx, func(context.Context) (time.Duration, error) {
					took := time.Since(begun)
					begun = time.Now()
					switch attempts++; {
					case attempts == 2 && took != test.takes:
						t.Errorf("the next attempt after %s, want %s", took, test.takes)
					case attempts == 3:
						if took != test.next {
							t.Errorf("the one after it after %s, want %s", took, test.next)
						}
						cancel()
					}
					return 0, errFault
				})
				if asked != test.silent+1 {
					t.Errorf("it was asked %d times", asked)
				}
			})
		})
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"nothing is missing": nil, "something is": errGone} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const after = 10*interval + 1
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				begun, attempts := time.Now(), 0
				restart.Loop{
					Name: "test", Log: slog.New(slog.DiscardHandler), First: time.Hour, Longest: time.Hour,
					Needed: func(context.Context) error { return answer },
					Ended:  func(error, time.Time) {},
				}.Run(ctx, func(context.Context) (time.Duration, error) {
					attempts++
					return 0, errFault
				})
				if took := time.Since(begun); took != after || attempts != 1 {
					t.Errorf("it ended after %s and %d attempts", took, attempts)
				}
			})
		})
	}
}

func TestAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		told := 0
		needed := func(context.Context) error {
			if time.Since(begun) < 3*interval {
				return errGone
			}
			return nil
		}
		tell := func(missing error) {
			if told++; !errors.Is(missing, errGone) {
				t.Errorf("%v is told", missing)
			}
		}
		if !restart.Await(t.Context(), needed, tell) || told != 3 || time.Since(begun) != 3*interval {
			t.Errorf("told %d times, after %s", told, time.Since(begun))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if restart.Await(ctx, needed, tell) {
			t.Error("it is there for a context that has ended")
		}
	})
}

// life is what happens around a loop: how its attempts end, one after another and from the first again, when something is missing, and
// when it is stopped.
type life struct {
	attempts []attempt
	outages  []outage
	asking   time.Duration // that a question takes
	stop     time.Duration // after the beginning
}

type attempt struct {
	runs, ready time.Duration
	err         error         // that it ends with
	drains      time.Duration // when it is stopped
	stopped     error         // that it ends with then
}

type outage struct{ from, to time.Duration }

// missing is whether something that is needed is missing at some time.
func (l life) missing(at time.Duration) bool {
	return slices.ContainsFunc(l.outages, func(o outage) bool { return o.from <= at && at < o.to })
}

func lives(t *rapid.T) life {
	// A stop falls between two of these, and so is never at the same time as anything else.
	moment := func(most time.Duration, what string) time.Duration {
		const step = 10 * time.Millisecond
		return step * time.Duration(rapid.Int64Range(0, int64(most/step)).Draw(t, what))
	}
	l := life{asking: moment(2*time.Second, "asking"), stop: moment(10*time.Minute, "stop") + 1}
	for range rapid.IntRange(1, 10).Draw(t, "attempts") {
		a := attempt{
			runs: moment(2*longest, "runs"), drains: moment(longest, "drains"),
			err:     rapid.SampledFrom([]error{errFault, errDisk, nil}).Draw(t, "error"),
			stopped: rapid.SampledFrom([]error{errFault, nil}).Draw(t, "stopped"),
		}
		a.ready = a.runs - moment(a.runs, "recovers")
		switch rapid.IntRange(0, 2).Draw(t, "how long") {
		case 0:
			a.runs, a.ready = 0, 0
		case 1:
			a.runs, a.ready = longest, longest
		}
		l.attempts = append(l.attempts, a)
	}
	for range rapid.IntRange(0, 5).Draw(t, "outages") {
		from := moment(l.stop, "from")
		l.outages = append(l.outages, outage{from, from + moment(2*time.Minute, "lasts")})
	}
	return l
}

// run is what a loop does in a life, a line for each event.
func (l life) run(t *testing.T, log *logtest.Lines) (events []string) {
	begun := time.Now()
	tell := func(format string, args ...any) {
		events = append(events, fmt.Sprintf("%s ", time.Since(begun))+fmt.Sprintf(format, args...))
	}
	ctx, cancel := context.WithTimeout(t.Context(), l.stop)
	defer cancel()
	// takes reports whether it was not cut short.
	takes := func(ctx context.Context, d time.Duration) bool {
		select {
		case <-time.After(d):
			return true
		case <-ctx.Done():
			return false
		}
	}
	n := 0
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		restart.Loop{
			Name: "test", Log: slog.New(slog.NewTextHandler(log, nil)), Level: slog.LevelError,
			First: first, Longest: longest, LongestAfter: longestAfter,
			Needed: func(ctx context.Context) error {
				if !takes(ctx, l.asking) {
					return ctx.Err()
				}
				if l.missing(time.Since(begun)) {
					return errGone
				}
				return nil
			},
			Ended: func(err error, next time.Time) {
				last := l.attempts[(n-1)%len(l.attempts)].err
				if last != nil && !errors.Is(err, last) || err == nil {
					tell("ended by %v, and not %v", err, last)
				}
				tell("ended, missing %v, next %s", errors.Is(err, errGone), next.Sub(begun))
			},
		}.Run(ctx, func(ctx context.Context) (time.Duration, error) {
			a := l.attempts[n%len(l.attempts)]
			n++
			tell("begins")
			defer func() { tell("ends") }()
			if a.runs > 0 && !takes(ctx, a.runs) {
				time.Sleep(a.drains)
				return a.ready, a.stopped
			}
			return a.ready, a.err
		})
		tell("stopped")
	}()
	<-ended
	return events
}

// expected is what the loop must do in a life, and how many lines of each kind the log must have.
func (l life) expected() (events []string, ends, disorders int) {
	now, wait := time.Duration(0), first
	tell := func(format string, args ...any) {
		events = append(events, fmt.Sprintf("%s ", now)+fmt.Sprintf(format, args...))
	}
	passes := func(d time.Duration) bool {
		now = min(now+d, l.stop)
		return now < l.stop
	}
	for n := 0; ; n++ {
		a := l.attempts[n%len(l.attempts)]
		tell("begins")
		if !passes(a.runs) {
			now += a.drains
			tell("ends")
			if a.stopped != nil {
				disorders = 1
			}
			break
		}
		tell("ends")
		ends++
		if a.ready >= longest {
			wait = first
		}
		wait = min(wait, longestAfter(a.err))
		tell("ended, missing false, next %s", now+wait)
		on, back := passes(l.asking), false
		for on && l.missing(now) {
			back = true
			tell("ended, missing true, next %s", now+interval)
			on = passes(interval) && passes(l.asking)
		}
		if !back {
			on = on && passes(wait)
		}
		if !on {
			break
		}
		if wait = min(2*wait, longest); back {
			wait = first
		}
	}
	tell("stopped")
	return events, ends, disorders
}

// Whatever ends attempts, is missing, and comes back, until it stops: the next attempt begins when it should, and never a second one, nothing
// begins while something is missing, what is reported is true, and the stop waits for the attempt, and for nothing else.
func TestLives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := lives(rt)
		var log logtest.Lines
		var got []string
		synctest.Test(t, func(t *testing.T) { got = l.run(t, &log) })
		want, ends, disorders := l.expected()
		if !slices.Equal(got, want) {
			i := 0
			for i < min(len(got), len(want)) && got[i] == want[i] {
				i++
			}
			rt.Fatalf("event %d of %q, want %q", i, got[i:], want[i:])
		}
		if n := log.Count("level=ERROR msg=\"the test ended, another one follows\""); n != ends {
			rt.Errorf("%d of %d ends are in the log", n, ends)
		}
		if n := log.Count("level=WARN msg=\"the test did not stop in order\""); n != disorders {
			rt.Errorf("%d of %d stops out of order are in the log", n, disorders)
		}
	})
}
