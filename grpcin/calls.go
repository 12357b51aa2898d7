package grpcin

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Limits bound what calls may hold while they wait for their replies. What is 0 has the default.
type Limits struct {
	Calls int // at once, default 10000

	// Replies that a caller has not taken yet. A call that reaches one of these stops taking the live feed, and
	// reads on from Kafka when its caller has taken what there is.
	Replies    int // of one call, default 256
	ReplyBytes int // of one call, default 256 KiB; a larger reply is held alone
	TotalBytes int // of all calls, default 256 MiB; as much again is for replies that are larger than ReplyBytes

	RequestBytes int // of all callers' messages until Kafka has acknowledged them, default 256 MiB; then no further ones are read

	Readers int // calls that read from Kafka at the same time, default 16
}

func (l Limits) withDefaults() Limits {
	for _, limit := range []struct {
		value    *int
		fallback int
	}{
		{&l.Calls, 10_000},
		{&l.Replies, 256},
		{&l.ReplyBytes, 256 << 10},
		{&l.TotalBytes, 256 << 20},
		{&l.RequestBytes, 256 << 20},
		{&l.Readers, 16},
	} {
		if *limit.value == 0 {
			*limit.value = limit.fallback
		}
	}
	return l
}

// Calls are the calls that wait for replies, of all servers of a process. It is safe for concurrent use.
type Calls struct {
	limits    Limits
	contracts map[string][]wire.Contract // by reply topic; one for each name of the correlation header
	readers   chan struct{}              // holds one token for each call that reads from Kafka
	large     *semaphore.Weighted        // bytes of replies that are larger than ReplyBytes, until their callers have taken them
	requests  *intake

	mu      sync.Mutex
	count   int
	bytes   int                           // of all replies that are held
	waiting map[string]map[string]*waiter // by correlation id, then by attempt; those whose end has not come
	awaited chan struct{}                 // closed while there are some
	fetches map[string]int                // calls that read topics, by their binding
}

// NewCalls makes the registry for the routes of these listeners.
func NewCalls(listeners []topology.Listener, l Limits) *Calls {
	l = l.withDefaults()
	c := &Calls{
		limits: l, contracts: map[string][]wire.Contract{}, readers: make(chan struct{}, l.Readers),
		large: semaphore.NewWeighted(int64(l.TotalBytes)), requests: newIntake(l.RequestBytes),
		waiting: map[string]map[string]*waiter{}, awaited: make(chan struct{}), fetches: map[string]int{},
	}
	for _, l := range listeners {
		for _, r := range l.Routes {
			if !c.knows(r) {
				c.contracts[r.ReplyTo] = append(c.contracts[r.ReplyTo], r.Contract)
			}
		}
	}
	return c
}

// knows reports whether replies to calls of the route would be found.
func (c *Calls) knows(r topology.NorthRoute) bool {
	return r.ReplyTo == "" || slices.ContainsFunc(c.contracts[r.ReplyTo], func(known wire.Contract) bool {
		return known.CorrelationID == r.Contract.CorrelationID
	})
}

// Deliver takes a record of a reply topic. It never waits, and costs little for the replies that nobody here
// waits for: with several instances, most of them. Records of one partition must come in order.
//
// A reply that names an attempt goes to that one only; one that names none goes to all that wait for its
// correlation id.
func (c *Calls) Deliver(r wire.Record) {
	for _, contract := range c.contracts[r.Topic] {
		id, call := contract.Names(r.Headers)
		if id != nil {
			c.deliver(id, call, r)
		}
	}
}

func (c *Calls) deliver(id, call []byte, r wire.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	attempts := c.waiting[string(id)]
	if len(call) > 0 {
		if w, ok := attempts[string(call)]; ok {
			c.give(w, r)
		}
		return
	}
	for _, w := range attempts {
		c.give(w, r)
	}
}

// give is called under mu.
func (c *Calls) give(w *waiter, r wire.Record) {
	if r.Topic != w.replyTo {
		return
	}
	switch {
	case w.single:
		c.giveSingle(w, r)
	case len(w.missed) > 0 || !c.hold(w, r):
		w.miss(r)
	}
	if w.ended {
		c.remove(w)
	}
	w.wake()
}

// giveSingle takes a reply to a method that answers with one message. Of messages without numbers the latest counts: one may be left
// of a processor that was killed between the message and the end, and that answered again after its restart. It is called
// under mu.
func (c *Calls) giveSingle(w *waiter, r wire.Record) {
	if !w.follows(r) {
		return
	}
	end, ok := w.held(r)
	if r.Value == nil {
		w.replies = append(w.replies, r)
		return
	}
	c.large.Release(w.large)
	w.message, w.hasMessage, w.large = r, true, 0
	if w.left = !c.fits(w, r); w.left {
		w.message.Value = []byte{} // it is read from Kafka when the end has come
	}
	if ok {
		w.replies = append(w.replies, end)
	}
}

// hold keeps a reply for its caller, where there is room; one that is left out needs none. It is called under mu.
func (c *Calls) hold(w *waiter, r wire.Record) bool {
	if w.ended || !w.follows(r) {
		return true
	}
	size := sizeOf(r)
	if len(w.replies) > 0 && size > c.limits.ReplyBytes || !c.fits(w, r) {
		return false
	}
	if len(w.replies) > 0 && (len(w.replies) >= c.limits.Replies || w.bytes+size > c.limits.ReplyBytes || c.bytes+size > c.limits.TotalBytes) {
		return false
	}
	w.replies = append(w.replies, w.keep(r))
	w.bytes += size
	c.bytes += size
	if end, ok := w.held(r); ok {
		w.replies = append(w.replies, end)
		w.bytes += sizeOf(end)
		c.bytes += sizeOf(end)
	}
	return true
}

// fits reports whether a reply that is larger than one call may hold has room among those of all. It is called under mu.
func (c *Calls) fits(w *waiter, r wire.Record) bool {
	size := c.weight(r)
	if size == 0 || size <= w.large && !w.taken { // there is room that was waited for
		return true
	}
	if w.taken || !c.large.TryAcquire(size-w.large) {
		w.needs = size
		return false
	}
	w.large = size
	return true
}

// weight is what a reply counts among the large ones. One that is larger than all may be counts as much as all.
func (c *Calls) weight(r wire.Record) int64 {
	size := sizeOf(r)
	if size <= c.limits.ReplyBytes {
		return 0
	}
	return int64(min(size, c.limits.TotalBytes))
}

// makeRoom waits until the reply that did not fit does.
func (c *Calls) makeRoom(ctx context.Context, w *waiter) error {
	c.mu.Lock()
	missing := w.needs - w.large
	w.needs = 0
	c.mu.Unlock()
	if missing <= 0 {
		return nil
	}
	if err := c.large.Acquire(ctx, missing); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.large += missing
	return nil
}

// next takes the next reply that is held for the call, whose caller has taken the one before. Where there is none, behind
// tells that there are some to be read from Kafka.
func (c *Calls) next(w *waiter) (r wire.Record, ok, behind bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.single && w.taken {
		c.large.Release(w.large)
		w.large, w.taken = 0, false
	}
	if len(w.replies) == 0 {
		return wire.Record{}, false, len(w.missed) > 0
	}
	r = w.replies[0]
	w.replies[0] = wire.Record{} // not to be held by the rest
	w.replies = w.replies[1:]
	w.taken = w.large > 0
	if !w.single {
		w.bytes -= sizeOf(r)
		c.bytes -= sizeOf(r)
	}
	return r, true, false
}

// single is the one message of a call whose end has come, where there was one.
func (c *Calls) single(ctx context.Context, w *waiter, reader Reader) (wire.Record, bool, error) {
	c.mu.Lock()
	message, ok, left := w.message, w.hasMessage, w.left // nothing changes any more
	c.mu.Unlock()
	if !left {
		return message, ok, nil
	}
	if err := c.makeRoom(ctx, w); err != nil {
		return message, ok, err
	}
	done, err := c.turn(ctx)
	if err != nil {
		return message, ok, err
	}
	defer done()
	err = reader.Read(ctx, w.replyTo, message.Partition, message.Offset, message.Offset+1, func(r wire.Record) error {
		message.Value = r.Value
		return nil
	})
	return message, ok, err
}

// turn waits until few enough others read from Kafka.
func (c *Calls) turn(ctx context.Context) (done func(), err error) {
	select {
	case c.readers <- struct{}{}:
		return func() { <-c.readers }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// catchUp holds as many of the replies that the call has missed as there is room for. The reader's memory is used
// by few calls at a time, and by none whose caller is being waited for.
func (c *Calls) catchUp(ctx context.Context, w *waiter, reader Reader) error {
	if err := c.makeRoom(ctx, w); err != nil {
		return err
	}
	done, err := c.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	missed := w.missed[0] // the live feed only adds to them
	c.mu.Unlock()
	next := missed.to
	err = reader.Read(ctx, w.replyTo, missed.partition, missed.from, missed.to, func(r wire.Record) error {
		if !w.matches(r) {
			return nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.hold(w, r) {
			next = r.Offset
			return errNoRoom
		}
		return nil
	})
	if err != nil && next == missed.to {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.missed[0].from = next
	if w.missed[0].from >= w.missed[0].to {
		w.missed = w.missed[1:]
	}
	return nil
}

// wait registers an attempt. Without an error the caller must call forget in the end.
func (c *Calls) wait(w *waiter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count >= c.limits.Calls {
		return status.Errorf(codes.ResourceExhausted, "%d calls are waiting for their reply already; try again later", c.count)
	}
	c.count++
	if len(c.waiting) == 0 {
		close(c.awaited)
	}
	attempts := c.waiting[w.correlationID]
	if attempts == nil {
		attempts = make(map[string]*waiter, 1)
		c.waiting[w.correlationID] = attempts
	}
	attempts[w.call] = w
	return nil
}

// forget ends the wait of an attempt, and drops what its caller has not taken.
func (c *Calls) forget(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(w)
	c.count--
	c.bytes -= w.bytes
	c.large.Release(w.large)
	w.replies, w.missed, w.bytes, w.large = nil, nil, 0, 0
}

// remove is called under mu. A waiter that is not there any more is fine.
func (c *Calls) remove(w *waiter) {
	attempts := c.waiting[w.correlationID]
	if attempts[w.call] == nil {
		return
	}
	delete(attempts, w.call)
	if len(attempts) == 0 {
		delete(c.waiting, w.correlationID)
	}
	if len(c.waiting) == 0 {
		c.awaited = make(chan struct{})
	}
}

// Awaited is closed while a call awaits a reply; a later call closes it where none does now.
func (c *Calls) Awaited() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.awaited
}

// fetch counts a call in that reads a topic. Each has connections to Kafka, and memory for what is read ahead.
func (c *Calls) fetch(r topology.NorthRoute) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.fetches[r.Binding]; n >= r.Fetch.MaxFetches {
		return nil, status.Errorf(codes.ResourceExhausted, "%d calls read topics already; try again later", n)
	}
	c.fetches[r.Binding]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fetches[r.Binding]--
	}, nil
}

// Waiting is how many calls are open now.
func (c *Calls) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Held is how many bytes of replies wait in memory for callers that read slowly.
func (c *Calls) Held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
