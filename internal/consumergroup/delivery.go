package consumergroup

import (
	"context"

	"kafkagrpc/wire"
)

// Delivery is a record of the topic of a claim, or something injected into it.
// Its methods are safe for concurrent use.
type Delivery struct {
	Record  *wire.Record // nil when injected; must not be changed
	Payload any          // what was injected; nil for a record

	claim  *claim
	key    string // of an injected delivery
	offset int64  // the record's, or a synthetic one above all of them
	rested bool   // in an earlier session

	// Guarded by claim.mu.
	open   int // the handler's mark, holds, and injected deliveries that are not finished
	marked bool
	parent *Delivery  // what an injected delivery was injected for
	next   *injection // what follows once it is marked

	bytes int // of a record and its results, against the bounds

	followers []int64 // offsets of records that are worth nothing without this one
	ends      *Hold   // given up when this one is finished
	awaits    int     // holds among open that only further records end
	done      bool    // Hold.Rest was called
	resting   bool    // done, and nothing else is open
	blocking  func()  // called when no more can be read because of this one
}

// Acknowledged is what an injected payload implements to learn that everything which its callback wrote is acknowledged.
// It is called by the goroutine that marks, so it must not wait, nor use the claim.
type Acknowledged interface{ Acknowledged() }

type injection struct {
	key     string
	payload any
}

// Key is that of the record, or under which the delivery was injected.
func (d *Delivery) Key() string {
	if d.Record != nil {
		return string(d.Record.Key)
	}
	return d.key
}

// Mark says that everything that the callback wrote for the delivery is acknowledged. A delivery that is not marked is never finished. Further
// calls do nothing.
func (d *Delivery) Mark() { d.claim.mark(d) }

// Context ends when the claim takes no more injections: its session ended and the drain time is over. Work done
// for the delivery has lost its meaning then; another member does it again.
func (d *Delivery) Context() context.Context { return d.claim.ctx }

// Draining reports whether the session has ended: what is in flight finishes, and nothing is to begin any more.
func (d *Delivery) Draining() bool { return d.claim.session.Context().Err() != nil }

// Hold keeps the delivery unfinished until the Hold is released or what it injects is finished. A delivery that is
// finished already cannot be held any more: the Hold is used up from the start.
func (d *Delivery) Hold() *Hold {
	d.claim.mu.Lock()
	defer d.claim.mu.Unlock()
	if d.open == 0 {
		return &Hold{delivery: d, used: true}
	}
	d.open++
	return &Hold{delivery: d}
}

// Await is Hold for a record that further records of its claim belong to. It does not keep the claim from ending its drain, in
// which nothing is read any more.
func (d *Delivery) Await() *Hold {
	h := d.Hold()
	d.claim.mu.Lock()
	defer d.claim.mu.Unlock()
	if !h.used {
		h.awaits = true
		d.awaits++
	}
	return h
}

// Rested reports whether the record rested in an earlier session, here or elsewhere: all that it was to cause is done. Only the
// records behind it that belong to it may still come.
func (d *Delivery) Rested() bool { return d.rested }

// Then injects payload under key once the handler has marked this delivery, that is, once everything that its
// callback wrote is acknowledged. The delivery is finished when that injection is. Only to be called in
// the delivery's own callback, at most once.
func (d *Delivery) Then(key string, payload any) {
	d.claim.mu.Lock()
	defer d.claim.mu.Unlock()
	d.next = &injection{key, payload}
}

// Charge counts bytes that are kept for the delivery, such as a result on its way, against the bounds until its record
// is finished: reading pauses while they are used up. It never waits and is never refused.
func (d *Delivery) Charge(bytes int) {
	c := d.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	root := d
	for root.parent != nil {
		root = root.parent
	}
	if root.Record == nil || root.open == 0 || root.resting || c.closed { // nobody's, finished, or given back
		return
	}
	root.bytes += bytes
	c.bytes += bytes
	c.options.Budget.charge(bytes)
}

// Follow says that d, a record that adds to an earlier one of the same claim, must be delivered again after a crash as
// long as the earlier one must. It may be finished before that one, and then is not in flight any more.
func (d *Delivery) Follow(earlier *Hold) {
	c, first := d.claim, earlier.delivery
	if first.claim != c {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if first.open > 0 && !first.resting && first.Record != nil && d.Record != nil && d.offset > first.offset {
		first.followers = append(first.followers, d.offset)
		c.window.follow(d.offset, true)
	}
}

// Ends gives a hold of an earlier record of the same claim up when d is finished, and not before: no commit stands
// between the two, so that d is never delivered without the earlier one. At most one for each delivery.
func (d *Delivery) Ends(h *Hold) {
	if h.delivery.claim != d.claim {
		return
	}
	d.claim.mu.Lock()
	defer d.claim.mu.Unlock()
	d.ends = h
}

// WhenBlocking says what to call, once, if the claim reads no more because d, which is the first unfinished one, holds
// back MaxUncommitted records. It is called on a goroutine that must not wait.
func (d *Delivery) WhenBlocking(f func()) {
	d.claim.mu.Lock()
	defer d.claim.mu.Unlock()
	d.blocking = f
	d.claim.signal()
}

// Hold is one reason why a delivery is not finished. It is used up by the first call of Release or Inject; later
// calls do nothing. Safe for concurrent use.
type Hold struct {
	delivery *Delivery
	awaits   bool // for further records

	used bool // guarded by claim.mu
}

// Charge is Delivery.Charge for the delivery that is held.
func (h *Hold) Charge(bytes int) { h.delivery.Charge(bytes) }

// Release gives the hold up. When the claim takes no injections any more it does nothing: work that was cut short
// must not finish its record, not even through a deferred Release.
func (h *Hold) Release() {
	h.delivery.claim.commit(h.released())
}

// released gives the hold up, and answers what became finished by it.
func (h *Hold) released() prefix {
	c := h.delivery.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.used || c.closed {
		return prefix{}
	}
	h.use()
	return c.finish(h.delivery)
}

// use uses the hold up. The caller holds claim.mu.
func (h *Hold) use() {
	h.used = true
	if h.awaits {
		h.delivery.awaits--
	}
}

// Rest says that all that the record was to cause is on its way, and that only its offset is kept by this hold, which is of Await.
// As soon as everything else of it is acknowledged the record rests: it counts against no bound, those that follow it are worth something without it,
// and the next owner of the partition gets it as Rested. Release ends the rest.
func (h *Hold) Rest() {
	c := h.delivery.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.used || c.closed || h.delivery.Record == nil {
		return
	}
	h.delivery.done = true
	c.settle(h.delivery)
	c.signal()
}

// Inject sends payload through the claim to the handler, under key, in place of the hold: the held delivery
// is finished when the injected one is. It never waits. False means that the claim takes no injections any more
// (its session is over) or that the hold was used up; in the first case the held record will be delivered again,
// here or elsewhere. True does not promise a callback: the drain time may be over before the payload's turn comes, and
// then, too, the record is delivered again.
func (h *Hold) Inject(key string, payload any) bool {
	c := h.delivery.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.used || c.closed {
		return false
	}
	h.use()
	c.inject(h.delivery, injection{key, payload})
	return true
}
