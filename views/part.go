package views

import (
	"sync"
	"time"

	"kafkagrpc/internal/tablestore"
)

// part is the copy of one partition. Its methods are safe for concurrent use.
type part struct {
	mu sync.RWMutex // never held while anything else is done
	partState

	// begun and target are of a measurement that becomes asOf when the position reaches target.
	begun  time.Time
	target int64

	waited int64 // position at the last measurement
}

// partState is how far the copy of a partition is.
type partState struct {
	opened    bool              // by goka
	store     *tablestore.Store // nil until it is opened, and where no rows are kept
	position  int64             // offset of the next record; everything before was read
	end       int64             // of the topic, when it was last asked for
	recovered bool
	waiting   bool      // what comes next waits for the end of a producer's transaction
	asOf      time.Time // everything that was in the partition then is in the store
}

// Freshness is how stale an answer may be.
type Freshness struct {
	AsOf time.Time // everything that was in the table's topic then is in the answer
	Lag  int64     // records of the topic that were not read yet, when it was last asked
}

func (s partState) lag() int64 { return max(0, s.end-s.position) }

func (s partState) freshness() Freshness { return Freshness{s.asOf, s.lag()} }

func (p *part) state() partState {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.partState
}

// open is called with the store of the partition, and where the topic ended at begun.
func (p *part) open(store *tablestore.Store, position int64, begun time.Time, end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened, p.store, p.position, p.end = true, store, position, end
	p.begun, p.target = begun, end
}

// setRecovered is called when goka has recovered the partition.
func (p *part) setRecovered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recovered = true
	p.settle()
}

// advance is called when everything before position is in the store.
func (p *part) advance(position int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.position = position
	p.settle()
}

// measured notes where the partition ended, and reports whether that is before what was read of it. waits says that nothing was
// read since the last measurement, though there are offsets from at on.
func (p *part) measured(begun time.Time, end int64) (anew bool, at int64, waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.opened {
		return false, 0, false
	}
	if p.recovered && end < p.end {
		return true, 0, false
	}
	p.end = end
	if p.begun.IsZero() {
		p.begun, p.target = begun, end
	}
	p.settle()
	waits = p.recovered && p.position < end && p.position == p.waited
	p.waited = p.position
	if p.recovered && !waits {
		p.waiting = false
	}
	return false, p.position, waits
}

// pass passes offsets of no record for the copy, such as the markers at the ends of transactions, and notes whether the next one is
// where a transaction is open.
func (p *part) pass(from, to int64, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.position != from {
		return
	}
	p.position, p.waiting = to, open
	p.settle()
}

func (p *part) setOpen(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = open
}

// settle makes the measurement that is reached the last one. The caller holds mu.
func (p *part) settle() {
	if p.recovered && !p.begun.IsZero() && p.position >= p.target {
		p.asOf, p.begun = p.begun, time.Time{}
	}
}
