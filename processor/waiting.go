package processor

import (
	"cmp"
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/restart"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor/partition"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
)

// Rows that wait for another attempt, or for their answers, are marked in the local store by when they are due. Their partition's owner looks what is due
// there, and has it done on the partition's goroutine; only what is being done is in memory. Of a service whose breaker is open one row of a
// partition is called, as a probe.

// The lanes of marks.
const (
	laneTarget = "target/" // and the service: when another attempt is due
	laneAtOnce = "at once" // a deadline, or answers that may not be out: nothing is called
	laneSince  = "since"   // when the first attempt began
)

// marks are those of a row.
func marks(row []byte) []tablestore.Mark {
	w, waits := rowpb.WaitsOf(row)
	switch {
	case !waits:
		return nil
	case w.Answers:
		return []tablestore.Mark{{Lane: laneAtOnce}}
	}
	all := []tablestore.Mark{{Lane: laneSince, At: max(w.Since, 0)}}
	if !w.Behind {
		all = append(all, tablestore.Mark{Lane: laneTarget + w.Target, At: max(w.Next, 0)})
	}
	if w.Line != "" {
		all = append(all, tablestore.Mark{Lane: w.Line, At: max(w.Place, 0)})
	}
	if w.Deadline > 0 {
		all = append(all, tablestore.Mark{Lane: laneAtOnce, At: w.Deadline})
	}
	return all
}

const (
	// waitingInterval is how often it is looked what is due, at least: the breaker of a service may have closed.
	waitingInterval = time.Second
	// waitingRest is between two looks.
	waitingRest = 10 * time.Millisecond
	// waitingPause is where nothing can be done now: the claim of the partition takes nothing yet, or the process has enough to do.
	waitingPause = 100 * time.Millisecond
	// commandTime is how long a command waits for the claim of its partition.
	commandTime = 2 * time.Second
	// atOnce is how many rows are answered at a time.
	atOnce = 100
)

// waitingRows are those of one assignment of a partition.
type waitingRows struct {
	processor *Processor
	part      *partition.Partition
	store     *tablestore.Store
	inject    func(key string, payload any) bool

	mu    sync.Mutex
	doing map[step]int   // by what is being done: the bytes of its row
	calls map[string]int // of them, by lane
	all   int            // calls
	bytes int
}

// step is something that a row is due for.
type step struct{ lane, key string }

// retryWaiting has what rows of a store wait for done, while this instance owns its partition, until ctx ends.
func (p *Processor) retryWaiting(ctx context.Context, group *consumergroup.Group, s *tablestore.Store) {
	w := &waitingRows{}
	defer func() { w.forget() }()
	for {
		part := p.partition(s.Partition)
		if w.part != part {
			w.forget()
			w = &waitingRows{
				processor: p, part: part, store: s, doing: map[step]int{}, calls: map[string]int{},
				inject: func(key string, payload any) bool {
					return group.Inject(p.config.Remote.Loop, s.Partition, key, payload)
				},
			}
			if part != nil {
				w.mendLines(ctx)
			}
		}
		next := waitingInterval
		var stirred <-chan struct{}
		if part != nil {
			next, stirred = w.look(ctx, time.Now()), part.Stirred()
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-stirred:
			timer.Stop()
		}
		if !restart.Pause(ctx, waitingRest) {
			return
		}
	}
}

// look has done what is due now, as far as there is room for it, and answers when to look again.
func (w *waitingRows) look(ctx context.Context, now time.Time) (next time.Duration) {
	next = waitingInterval
	lanes := w.store.Lanes()
	w.part.NoteWaiting(int(lanes[laneSince]), w.oldest(lanes[laneSince] > 0))
	targets := 0
	for lane := range lanes {
		if strings.HasPrefix(lane, laneTarget) {
			targets++
		}
	}
	var open map[string]bool
	if targets > 0 {
		open = w.processor.openBreakers()
	}
	for lane := range lanes {
		target, calls := strings.CutPrefix(lane, laneTarget)
		places := atOnce
		switch {
		case lane != laneAtOnce && !calls: // of what is not due by itself
			continue
		case calls && open[target]:
			places = 1
		case calls:
			places = max(1, cmp.Or(w.processor.remote.Load().Processing.MaxInFlight, topology.DefaultMaxInFlight)/targets)
		}
		err := w.store.Marked(lane, func(at int64, key []byte, size int) bool {
			if left := time.Duration(min(at-now.UnixMilli(), math.MaxInt32)) * time.Millisecond; left > 0 {
				next = min(next, left)
				return false
			}
			s := step{lane, string(key)}
			room, known := w.begin(s, calls, places, size)
			switch {
			case known:
				return true
			case !room:
				next = min(next, waitingPause)
				return false
			}
			if !partition.Retry(s.key, w.inject, w.over(s, calls), w.relay(s, calls)) {
				w.end(s, calls)
				next = waitingPause
				return false
			}
			return ctx.Err() == nil
		})
		if err != nil && ctx.Err() == nil {
			w.processor.config.Log.Error("the rows that wait were not looked through", "partition", w.store.Partition, "error", err)
		}
	}
	return next
}

// over is what tells that a step is.
func (w *waitingRows) over(s step, call bool) func() {
	return func() {
		w.end(s, call)
		w.part.Stir()
	}
}

// relay gives the place of a step to the next row of its line.
func (w *waitingRows) relay(s step, call bool) func(next string) bool {
	return func(next string) bool {
		follows := step{s.lane, next}
		w.mu.Lock()
		size, known := w.doing[s]
		_, busy := w.doing[follows]
		if known && !busy {
			delete(w.doing, s)
			w.doing[follows] = size
		}
		w.mu.Unlock()
		if !known || busy {
			return false
		}
		if !partition.RetryNext(next, w.inject, w.over(follows, call), w.relay(follows, call)) {
			w.end(follows, call) // the session ends
		}
		return true
	}
}

// mendLines looks for lines whose first row is marked as behind another one, as a crash may have left them.
func (w *waitingRows) mendLines(ctx context.Context) {
	if w.store.Count(rowpb.LanesOfLines) == 0 {
		return
	}
	places := make(chan struct{}, atOnce)
	err := w.store.Firsts(rowpb.LanesOfLines, func(key []byte) bool {
		value, err := w.store.Get(string(key))
		if waits, _ := rowpb.WaitsOf(value); err != nil || !waits.Behind {
			return ctx.Err() == nil
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		for !partition.NextInLine(string(key), w.inject, func() { <-places }) {
			if w.processor.partition(w.store.Partition) != w.part || !restart.Pause(ctx, waitingPause) {
				return false
			}
		}
		return true
	})
	if err != nil && ctx.Err() == nil {
		w.processor.config.Log.Error("the lines of rows that wait were not looked through", "partition", w.store.Partition, "error", err)
	}
}

// oldest is when the first attempt at the request that waits for longest began.
func (w *waitingRows) oldest(any bool) (since time.Time) {
	if any {
		_ = w.store.Marked(laneSince, func(at int64, _ []byte, _ int) bool {
			since = time.UnixMilli(at)
			return false
		})
	}
	return since
}

// begin counts a step in, where there is room for it. known says that it is being taken already.
func (w *waitingRows) begin(s step, call bool, places, size int) (room, known bool) {
	bounds := w.processor.config.Remote.Processing
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.doing[s]; known {
		return true, true
	}
	if w.calls[s.lane] >= places {
		return false, false
	}
	if call {
		if w.all > 0 && (w.all >= cmp.Or(bounds.MaxInFlight, topology.DefaultMaxInFlight) || w.bytes+size > cmp.Or(bounds.MaxInFlightBytes, topology.DefaultMaxInFlightBytes)) {
			return false, false
		}
		if !w.processor.retrying.take(size, w.all == 0) {
			return false, false
		}
		w.all++
		w.bytes += size
	}
	w.calls[s.lane]++
	w.doing[s] = size
	return true, false
}

// end counts a step off.
func (w *waitingRows) end(s step, call bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	size, known := w.doing[s]
	if !known {
		return
	}
	delete(w.doing, s)
	w.calls[s.lane]--
	if call {
		w.all--
		w.bytes -= size
		w.processor.retrying.give(1, size)
	}
}

// forget counts everything off: of an assignment that is over nothing comes any more.
func (w *waitingRows) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.processor != nil {
		w.processor.retrying.give(w.all, w.bytes)
	}
	w.doing, w.calls, w.all, w.bytes = nil, nil, 0, 0
}

// retrying bounds the calls of rows in all partitions, as the budget does those of records. Safe for concurrent use.
type retrying struct {
	mu                   sync.Mutex
	calls, bytes         int // the bounds
	usedCalls, usedBytes int
}

// set changes the bounds. What is under way goes on.
func (r *retrying) set(p topology.Processing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = cmp.Or(p.MaxInFlightTotal, topology.DefaultMaxInFlightTotal)
	r.bytes = cmp.Or(p.MaxInFlightTotalBytes, topology.DefaultMaxInFlightTotalBytes)
}

// take counts a call in. The first one of a partition must be: no partition waits for another.
func (r *retrying) take(bytes int, must bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !must && (r.usedCalls >= r.calls || r.usedBytes+bytes > r.bytes) {
		return false
	}
	r.usedCalls++
	r.usedBytes += bytes
	return true
}

func (r *retrying) give(calls, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.usedCalls -= calls
	r.usedBytes -= bytes
}

// openBreakers are the addresses of the services whose breakers are open.
func (p *Processor) openBreakers() map[string]bool {
	open := map[string]bool{}
	for t, is := range p.caller.Open() {
		open[t.Address] = open[t.Address] || is
	}
	return open
}

// ErrNotWaiting is what is answered of a key without requests that wait.
var ErrNotWaiting = partition.ErrNotWaiting

// RetryNow has the requests of a key in a partition that wait retried as soon as there is a place for them.
func (p *Processor) RetryNow(ctx context.Context, key string, in int32) error {
	return p.command(ctx, key, in, partition.RetryNow)
}

// GiveUp answers the requests of a key in a partition that wait with the status of their last attempt, and makes a dead letter of the first.
func (p *Processor) GiveUp(ctx context.Context, key string, in int32) error {
	return p.command(ctx, key, in, partition.GiveUpKey)
}

// command has something done in a partition.
func (p *Processor) command(ctx context.Context, key string, id int32, c partition.Command) error {
	p.mu.RLock()
	group, part := p.group, p.parts[id]
	p.mu.RUnlock()
	if part == nil || group == nil {
		return ErrNotReady
	}
	told := make(chan error, 1)
	inject := func(key string, payload any) bool { return group.Inject(p.config.Remote.Loop, id, key, payload) }
	for begun := time.Now(); !c(key, inject, told); { // the claim of a partition comes a little later than its store
		if time.Since(begun) > commandTime || !restart.Pause(ctx, waitingPause) {
			return ErrNotReady
		}
	}
	looking := time.NewTicker(waitingPause)
	defer looking.Stop()
	for p.partition(id) == part { // else nobody tells
		select {
		case err := <-told:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-looking.C:
		}
	}
	return ErrNotReady
}
