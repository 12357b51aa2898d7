package partition

import (
	"sync"
	"sync/atomic"
	"time"

	"kafkagrpc/wire"
)

// Partition is what one partition of a group has in flight. Only the goroutine of the partition touches it, but for what is said otherwise; a
// rebalance begins with new ones, and what the old ones had in flight comes to nothing.
type Partition struct {
	*Binding
	id       int32
	home     *wire.Pin              // of its rows; nil: each key has its own
	calls    map[string]*call       // by table key
	lines    map[string]line        // by their keys; those of which none is in flight are not there
	place    int64                  // the last one that was given in a line of rows
	open     map[attemptID]*attempt // streams whose request is open; bounded by the claim's in-flight bound
	outlived outlivedRequests
	outdated outlivedRequests // unary ones that were too old
	unary    *fingerprint     // of one request after another, each in its turn
	spare    *attempt         // nobody has it: made for the end of a request that asked for nothing more
	streams  openStreams
	load     load
	spans    openSpans
	stirred  chan struct{} // holds one: rows that wait have changed
	lined    bool          // there may be rows in lines
}

// Assign begins a partition of a new assignment.
func (b *Binding) Assign(id int32) *Partition {
	p := &Partition{
		Binding: b, id: id, calls: make(map[string]*call), open: make(map[attemptID]*attempt), unary: newFingerprint(),
		load: load{calls: make(map[*call]time.Time)}, stirred: make(chan struct{}, 1),
	}
	if b.config.Remote.Processing.Ordered() {
		p.lines, p.home = make(map[string]line), wire.PinTo(id)
	}
	return p
}

// Stirred tells when rows that wait have changed.
func (p *Partition) Stirred() <-chan struct{} { return p.stirred }

// Stir has rows that wait looked at. Safe for concurrent use.
func (p *Partition) Stir() {
	select {
	case p.stirred <- struct{}{}:
	default: // it will be looked at anyway
	}
}

// GiveUp ends what is left of a partition whose goroutine has ended: nothing in it is answered any more.
func (p *Partition) GiveUp() {
	p.allStreams.subtract(&p.streams)
	p.spans.giveUp()
}

// Load is how much a partition has in flight.
type Load struct {
	Calls   int
	Oldest  time.Time // when the first of the calls began; zero without any
	Queued  int       // requests that wait in lines
	Parked  int       // requests that wait for the result of a call
	Streams int       // that are open

	Waiting       int       // keys whose requests wait in their rows
	OldestWaiting time.Time // when the first attempt at the oldest of them began; zero without any
}

// Load looks on. Safe for concurrent use.
func (p *Partition) Load() Load {
	l := p.load.look()
	l.Queued, l.Parked, l.Streams = int(p.load.queued.Load()), int(p.load.parked.Load()), int(p.streams.count.Load())
	l.Waiting = int(p.load.waiting.Load())
	if ms := p.load.oldestWaiting.Load(); ms != 0 {
		l.OldestWaiting = time.UnixMilli(ms)
	}
	return l
}

// NoteWaiting notes how many rows wait, and since when the oldest of them does. Safe for concurrent use.
func (p *Partition) NoteWaiting(rows int, since time.Time) {
	p.load.waiting.Store(int64(rows))
	p.load.oldestWaiting.Store(millis(since))
}

// load is what a partition has in flight, for those who look on: its own goroutine has the same elsewhere. Safe for concurrent use.
type load struct {
	mu    sync.Mutex
	calls map[*call]time.Time // when each began

	queued        atomic.Int64
	parked        atomic.Int64
	waiting       atomic.Int64
	oldestWaiting atomic.Int64 // in Unix milliseconds; 0: none
}

func (l *load) begin(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[c] = c.started
}

func (l *load) end(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, c)
}

func (l *load) look() Load {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := Load{Calls: len(l.calls)}
	for _, t := range l.calls {
		if now.Oldest.IsZero() || t.Before(now.Oldest) {
			now.Oldest = t
		}
	}
	return now
}
