package partition

import (
	"context"
	"testing"
	"testing/synctest"
)

// An idle worker makes the next call, no more than maxIdle are kept, and none is left in the end.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		returns := make(chan struct{})
		w := newWorkers(func(context.Context, *call) { <-returns })
		idle := func(want int32) {
			t.Helper()
			synctest.Wait()
			if n := w.idle.Load(); n != want {
				t.Errorf("%d idle workers, want %d", n, want)
			}
		}
		for range 2 {
			w.start(job{})
			idle(0)
			returns <- struct{}{}
			idle(1)
		}
		for range 2 * maxIdle {
			w.start(job{})
		}
		idle(0)
		for range 2 * maxIdle {
			returns <- struct{}{}
		}
		idle(maxIdle)
		for range 2 {
			w.wait()
			idle(0)
			w.start(job{})
			returns <- struct{}{}
			idle(1)
		}
		w.wait()
	})
}
