package partition

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxIdle bounds the workers that wait for a call.
const maxIdle = 512

// workers are the goroutines of calls. One that has made a call makes the next, on a stack that has grown already: a new goroutine
// copies its own several times on the way down through gRPC, which is a tenth of a call. Safe for concurrent use, but for wait.
type workers struct {
	call  func(context.Context, *call) // makes it, and injects its result
	calls chan job                     // nobody waits to send
	over  chan struct{}
	idle  atomic.Int32
	all   sync.WaitGroup
}

type job struct {
	ctx  context.Context
	call *call
}

func newWorkers(call func(context.Context, *call)) *workers {
	return &workers{call: call, calls: make(chan job), over: make(chan struct{})}
}

// start makes a call.
func (w *workers) start(j job) {
	select {
	case w.calls <- j:
	default:
		w.all.Go(func() { w.work(j) })
	}
}

func (w *workers) work(j job) {
	for {
		w.call(j.ctx, j.call)
		if w.idle.Add(1) > maxIdle {
			w.idle.Add(-1)
			return
		}
		select {
		case j = <-w.calls:
			w.idle.Add(-1)
		case <-w.over:
			w.idle.Add(-1)
			return
		}
	}
}

// wait returns when no call is in flight any more, and no worker idle. None must be started meanwhile.
func (w *workers) wait() {
	close(w.over)
	w.all.Wait()
	w.over = make(chan struct{})
}
