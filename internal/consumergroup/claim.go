package consumergroup

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/wire"
)

// syntheticOffsets is where the offsets of injected deliveries start: no log is that long.
const syntheticOffsets = int64(1) << 62

// claim is one partition of one topic during one session, as the handler sees it.
type claim struct {
	Claim   // the partition of the group below; only Messages is ours
	id      uint64
	options Options
	late    func()                      // a delivery was marked when the claim was gone
	stalled func() bool                 // of the group
	session sarama.ConsumerGroupSession // of the group below
	token   *sarama.ConsumerMessage     // causes a callback of the handler
	out     chan *sarama.ConsumerMessage
	wake    chan struct{} // something changed that the pump waits for
	stirred chan struct{} // something was finished behind an unfinished record
	ctx     context.Context
	cancel  context.CancelFunc

	before []run // finished in an earlier session, or resting; never changed

	commits sync.Mutex // makes what the session is told have an order; taken before mu

	mu        sync.Mutex
	progress  string // the metadata of commits
	wrote     bool   // a delivery was marked since the last snapshot for a transaction
	changed   bool   // what is finished or rests changed since then
	gone      bool   // there is no snapshot of it any more
	window    window
	reached   int64               // the offset behind its finished prefix; 0: nothing was finished
	next      int64               // offset of the next record to read; negative: not known yet
	end       int64               // of the partition, when it was last asked for
	waited    int64               // what next was then
	openSince time.Time           // when the claim began to wait for the end of a transaction; zero: it does not
	openTold  time.Time           // when the log said so last
	pending   map[int64]*Delivery // unfinished, by offset
	records   int                 // how many of them are records
	bytes     int                 // the sum of their sizes, and of what they were charged
	unhandled queue               // records that the handler has not got; at most maxBatch
	injected  queue               // not yet given to the handler; each stands for a hold, so bounded by them
	called    bool                // a callback is on its way, or under way, that takes what is ready
	blocked   bool                // the pump can not read
	synthetic int64
	closed    bool
}

func newClaim(g *Group, session sarama.ConsumerGroupSession, inner Claim) *claim {
	// Not derived from the session's context: that one ends before the claim is drained.
	ctx, cancel := context.WithCancel(context.WithoutCancel(session.Context()))
	id := g.nextClaim.Add(1)
	return &claim{
		Claim:     inner,
		id:        id,
		options:   g.options,
		late:      g.wroteLate,
		stalled:   g.Stalled,
		session:   session,
		token:     &sarama.ConsumerMessage{Topic: inner.Topic(), Partition: inner.Partition(), Value: tokenOf(id)},
		out:       make(chan *sarama.ConsumerMessage),
		wake:      make(chan struct{}, 1),
		stirred:   make(chan struct{}, 1),
		ctx:       ctx,
		cancel:    cancel,
		pending:   make(map[int64]*Delivery),
		synthetic: syntheticOffsets,
		next:      inner.InitialOffset(),
		waited:    -1,
	}
}

// Messages are tokens, each of which causes a callback; closed when the claim is drained.
func (c *claim) Messages() <-chan *sarama.ConsumerMessage { return c.out }

// pump reads records, and calls the handler when something is ready, until the session has ended and the claim is drained or lost, or
// until the handler has gone.
func (c *claim) pump(handlerGone <-chan struct{}) {
	defer close(c.out)
	defer c.close()

	sessionEnd := c.session.Context().Done()
	var drainOver <-chan time.Time
	var read []wire.Record // and not taken in: there is no room for the first one yet
	var call chan<- *sarama.ConsumerMessage
	drain := func() {
		sessionEnd, read = nil, nil
		c.putBack()
		limit := c.drainTime()
		if !c.idle() {
			c.options.Log.Info("a partition is about to be given up: what is in flight gets time to finish",
				"topic", c.Topic(), "partition", c.Partition(), "at_most", limit)
		}
		timer := time.NewTimer(limit)
		drainOver = timer.C
	}
	for {
		draining := sessionEnd == nil
		canRead := c.canRead(draining)
		if draining && (c.idle() || c.standing() == lost) {
			return
		}
		if c.stalled() {
			return
		}
		if len(read) > 0 && canRead && (c.skipped(read[0].Offset) || c.add(&read[0])) {
			read = read[1:]
			continue
		}
		if !canRead || len(read) > 0 {
			c.tellBlocking(read)
		}
		if call == nil && c.mustCall() {
			call = c.out
		}
		var records <-chan []wire.Record
		if canRead && len(read) == 0 {
			records = c.Records()
		}
		select {
		case call <- c.token:
			call = nil
		case batch, ok := <-records:
			if !ok {
				drain()
				continue
			}
			read = batch
		case <-c.wake:
		case <-sessionEnd:
			drain()
		case <-drainOver:
			return
		case <-handlerGone:
			return
		}
	}
}

// drainTime is what deliveries in flight still get at the end of the session.
func (c *claim) drainTime() time.Duration {
	if c.standing() == uncertain {
		return min(c.options.Drain, c.options.SessionTimeout/2)
	}
	return c.options.Drain
}

func (c *claim) standing() standing { return ownership(context.Cause(c.session.Context())) }

// canRead reports whether the pump may read a record. Where not, it is woken by what is finished, and at the end of a batch.
func (c *claim) canRead(draining bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	can := !draining && c.records < int(c.options.inFlight.records.Load()) && c.window.len() < c.options.MaxUncommitted && c.unhandled.len() < maxBatch
	c.blocked = !can
	return can
}

// mustCall reports whether something is ready, and no callback on its way to take it.
func (c *claim) mustCall() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	must := !c.called && c.ready()
	c.called = c.called || must
	return must
}

// ready reports whether the handler can be given something. The caller holds c.mu.
func (c *claim) ready() bool { return c.injected.len() > 0 || c.unhandled.len() > 0 }

// takeReady takes what the handler is given next. The caller holds c.mu.
func (c *claim) takeReady() *Delivery {
	if d := c.injected.pop(); d != nil {
		return d
	}
	if c.unhandled.len() == maxBatch {
		c.signal() // the pump may be waiting for room
	}
	return c.unhandled.pop()
}

// idle reports whether nothing is in flight, but for records that wait for others, which do not come any more in a drain.
func (c *claim) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.pending {
		if d.open > d.awaits {
			return false
		}
	}
	return true
}

// tellBlocking tells the first unfinished record that nothing more can be read because of it. read are those that wait for room, if any do.
func (c *claim) tellBlocking(read []wire.Record) {
	c.mu.Lock()
	var tell func()
	full := c.window.len() >= c.options.MaxUncommitted || len(read) > 0 && c.beyond(read[0].Offset)
	if full && c.unhandled.len() == 0 {
		if d := c.pending[c.window.first()]; d != nil {
			tell, d.blocking = d.blocking, nil
		}
	}
	c.mu.Unlock()
	if tell != nil {
		tell()
	}
}

// beyond reports whether metadata may have no room for all that can be finished when an offset is read: it waits until more at the head of the window
// is. What was finished in earlier sessions counts as read, as the metadata must go on telling it. The caller holds c.mu.
func (c *claim) beyond(offset int64) bool {
	return c.options.Transactions != nil && c.window.len() > 0 && max(offset, lastOf(c.before))-c.window.first() >= maxSpan
}

// add takes a record in; false means that there is no room for its bytes or its offset, and that the pump is woken when there is.
func (c *claim) add(r *wire.Record) bool {
	bytes := size(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.records == 0
	if c.beyond(r.Offset) || !first && c.bytes+bytes > int(c.options.inFlight.bytes.Load()) || !c.options.Budget.take(c, bytes, first) {
		c.blocked = true
		return false
	}
	d := &Delivery{Record: r, claim: c, offset: r.Offset, open: 1, bytes: bytes, rested: rested(c.before, r.Offset)}
	c.pending[r.Offset] = d
	c.unhandled.push(d)
	c.records++
	c.bytes += bytes
	c.window.push(r.Offset)
	if d.rested {
		c.window.rest(r.Offset) // it does already, and those that followed it are finished
	}
	c.next = r.Offset + 1
	return true
}

// size is what a record counts against the bounds.
func size(r *wire.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// leave takes a record that is no longer in flight from the bounds. The caller holds c.mu.
func (c *claim) leave(d *Delivery) {
	if d.resting {
		return // it has left them
	}
	c.records--
	c.bytes -= d.bytes
	if !c.closed { // else all has been given back
		c.options.Budget.give(1, d.bytes)
	}
}

// putBack takes the records that the handler has not got from what is in flight: they are not handled in this session. The window keeps
// their offsets back.
func (c *claim) putBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d := c.unhandled.pop(); d != nil; d = c.unhandled.pop() {
		c.leave(d)
		delete(c.pending, d.offset)
	}
}

// inject queues a delivery for the handler on behalf of parent, whose open count it takes over from a hold or
// a mark. The caller holds c.mu.
func (c *claim) inject(parent *Delivery, i injection) {
	c.synthetic++
	d := &Delivery{Payload: i.payload, claim: c, offset: c.synthetic, open: 1, parent: parent, key: i.key}
	c.pending[d.offset] = d
	c.injected.push(d)
	if !c.called {
		c.signal()
	}
}

// mark is the handler saying that all its callback for a delivery wrote is acknowledged.
func (c *claim) mark(d *Delivery) {
	prefix, first := c.marked(d)
	if !first {
		return
	}
	c.commit(prefix)
	if a, ok := d.Payload.(Acknowledged); ok {
		a.Acknowledged()
	}
}

// marked marks a delivery, and reports whether that is its first mark.
func (c *claim) marked(d *Delivery) (_ prefix, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.marked {
		return prefix{}, false
	}
	d.marked = true
	c.written()
	if next := d.next; next != nil {
		d.next = nil
		if !c.closed {
			c.inject(d, *next)
		}
		// A closed claim leaves the delivery unfinished: its record comes again.
		return prefix{}, true
	}
	return c.finish(d), true
}

// settle lets a record rest where it can. The caller holds c.mu.
func (c *claim) settle(d *Delivery) {
	if !d.done || d.resting || d.open > d.awaits {
		return
	}
	c.leave(d)
	d.resting = true
	c.window.rest(d.offset)
	c.unfollow(d)
	c.change()
	// Nobody looks at it any more, and it may lie here for long.
	r := d.Record
	d.Record = &wire.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp}
	c.stir()
}

// unfollow says that the followers of a record are worth something without it. The caller holds c.mu.
func (c *claim) unfollow(d *Delivery) {
	for _, offset := range d.followers {
		c.window.follow(offset, false)
	}
	d.followers = nil
}

// prefix is a finished prefix of the partition that is longer than the last one, and what is known of what is behind it. The zero
// value is none.
type prefix struct {
	to       int64 // the offset to commit; above 0, as at least one record is before it
	progress string
}

// finish takes one from the open count of d, and answers what became finished by it. The caller holds c.mu, and commits that when
// it does not any more.
func (c *claim) finish(d *Delivery) prefix {
	var commit int64
	var ok bool
	for d != nil {
		d.open--
		if d.open > 0 {
			c.settle(d)
			break
		}
		then := d.parent
		delete(c.pending, d.offset)
		if d.Record != nil {
			c.leave(d)
			c.change()
			if to, longer := c.window.finish(d.offset); longer {
				commit, ok = to, true
			}
			c.unfollow(d)
			if h := d.ends; h != nil && !h.used && !c.closed {
				h.use()
				then = h.delivery
			}
		}
		d = then
	}
	if c.blocked {
		c.signal()
	}
	return c.finished(commit, ok)
}

// finished is the prefix up to an offset, if it is a longer one. The caller holds c.mu.
func (c *claim) finished(to int64, longer bool) prefix {
	if c.options.Transactions != nil {
		return prefix{} // the session is told nothing
	}
	if c.window.plain() && len(c.unread()) == 0 {
		c.progress = ""
	} else {
		c.stir()
	}
	if !longer {
		return prefix{}
	}
	c.reached = max(c.reached, to)
	return prefix{to, c.progress}
}

// commit tells the session of a finished prefix. The caller does not hold c.mu: two goroutines may come here in the other order, and
// it keeps the higher offset.
func (c *claim) commit(p prefix) {
	if p.to == 0 {
		return
	}
	c.commits.Lock()
	defer c.commits.Unlock()
	c.session.MarkOffset(c.Topic(), c.Partition(), p.to, p.progress)
}

// unread is what is known from earlier sessions of records that this one has not read yet. The caller holds c.mu.
func (c *claim) unread() []run {
	for i, r := range c.before {
		if max(r.from, r.to-1) >= c.next {
			left := slices.Clone(c.before[i:])
			left[0].from = max(r.from, c.next)
			return left
		}
	}
	return nil
}

// stir says that the metadata of commits can say more.
func (c *claim) stir() {
	if c.options.Committed == nil || c.options.Transactions != nil {
		return
	}
	select {
	case c.stirred <- struct{}{}:
	default:
	}
}

// skipped takes in a record that was finished in an earlier session. Only the pump calls it.
func (c *claim) skipped(offset int64) bool {
	if len(c.before) == 0 || !contains(c.before, offset) {
		return false
	}
	c.commit(c.skip(offset))
	return true
}

// skip passes a record that was finished in an earlier session.
func (c *claim) skip(offset int64) prefix {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window.push(offset)
	c.next = offset + 1
	c.change()
	return c.finished(c.window.finish(offset))
}

// progressInterval is how often the metadata of commits is brought up to date: it is read only after a crash, and
// commits are sent less often.
const progressInterval = 100 * time.Millisecond

// noteProgress keeps the metadata of commits up to date until done.
func (c *claim) noteProgress(done <-chan struct{}) {
	for {
		select {
		case <-c.stirred:
			c.commitProgress()
		case <-done:
			return
		}
		select {
		case <-time.After(progressInterval):
		case <-done:
			return
		}
	}
}

// commitProgress renews the metadata of the committed offset.
func (c *claim) commitProgress() {
	c.commits.Lock()
	defer c.commits.Unlock()
	c.mu.Lock()
	base, runs := c.told(maxProgress)
	c.progress = encodeProgress(base, runs)
	progress := c.progress
	c.mu.Unlock()
	if progress == "" {
		return
	}
	// Base is at least what was ever marked: marks take c.commits, too. The session takes an offset that is higher than its
	// own by one of these, and one that is not by the other.
	c.session.MarkOffset(c.Topic(), c.Partition(), base, progress)
	c.session.ResetOffset(c.Topic(), c.Partition(), base, progress)
}

// told is what metadata is to say, of most runs of the window: all before base is finished, or not there. The caller holds c.mu.
func (c *claim) told(most int) (base int64, runs []run) {
	base, runs = c.window.runs(most)
	if base < 0 {
		base = c.next
	}
	unread := c.unread()
	if n := len(runs); n > 0 && len(unread) > 0 && runs[n-1].to == unread[0].from && runs[n-1].from < runs[n-1].to && unread[0].from < unread[0].to {
		unread[0].from, runs = runs[n-1].from, runs[:n-1] // of one that is read in part: it takes no more room than before
	}
	return base, append(runs, unread...)
}

// last is the longest finished prefix. Whoever finished the end of it may not have told the session yet.
func (c *claim) last() prefix {
	c.mu.Lock()
	defer c.mu.Unlock()
	return prefix{c.reached, c.progress}
}

// signal wakes the pump. It never waits: one pending wake-up is enough.
func (c *claim) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// close refuses further injections and releases, and ends the work that is still done for the claim. Marks still
// count: what they stand for is acknowledged.
func (c *claim) close() {
	c.mu.Lock()
	c.closed = true
	c.injected, c.unhandled = queue{}, queue{}
	c.options.Budget.forget(c)
	c.options.Budget.give(c.records, c.bytes)
	c.mu.Unlock()
	c.cancel()
}
