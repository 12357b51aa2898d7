package grpcin

import (
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/wire"
	"kafkagrpc/topology"
)

// DefaultMaxCalls is how many calls wait at once unless configured otherwise.
const DefaultMaxCalls = 10000

// Calls are the calls that wait for their reply, of all servers of a process. It is safe for concurrent use.
type Calls struct {
	max       int
	contracts map[string][]wire.Contract // by reply topic; one for each name of the correlation header

	mu      sync.Mutex
	count   int
	waiting map[string]map[string]*waiter // by correlation id, then by attempt
}

// waiter is one attempt of a call.
type waiter struct {
	replyTo       string
	correlationID string
	call          string      // id of the attempt
	message       wire.Record // the latest, guarded by Calls.mu
	hasMessage    bool        // guarded by Calls.mu
	answers       chan answer // takes the one answer without waiting
}

// answer is what ended a call: its terminal record, and the message before it where there was one.
type answer struct {
	message    wire.Record
	hasMessage bool
	end        wire.Record
}

// NewCalls makes the registry for the routes of these listeners, for at most limit calls at once; 0 is
// [DefaultMaxCalls].
func NewCalls(listeners []topology.Listener, limit int) *Calls {
	if limit == 0 {
		limit = DefaultMaxCalls
	}
	c := &Calls{max: limit, contracts: map[string][]wire.Contract{}, waiting: map[string]map[string]*waiter{}}
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
	if r.Value != nil {
		// The latest counts. A processor that was killed between the message and the end has left a message
		// behind; it answers again after its restart, and then with what it has stored for the key.
		w.message, w.hasMessage = r, true
		return
	}
	c.remove(w)
	w.answers <- answer{w.message, w.hasMessage, r}
}

// wait registers an attempt. Without an error the caller must call forget in the end.
func (c *Calls) wait(replyTo, correlationID, call string) (*waiter, error) {
	w := &waiter{replyTo: replyTo, correlationID: correlationID, call: call, answers: make(chan answer, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count >= c.max {
		return nil, status.Errorf(codes.ResourceExhausted, "%d calls are waiting for their reply already; try again later", c.count)
	}
	attempts := c.waiting[correlationID]
	if attempts == nil {
		attempts = make(map[string]*waiter, 1)
		c.waiting[correlationID] = attempts
	}
	attempts[call] = w
	c.count++
	return w, nil
}

// forget ends the wait of an attempt; after its answer it does nothing.
func (c *Calls) forget(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(w)
}

// remove is called under mu.
func (c *Calls) remove(w *waiter) {
	attempts := c.waiting[w.correlationID]
	if attempts[w.call] == nil {
		return // it was answered
	}
	delete(attempts, w.call)
	if len(attempts) == 0 {
		delete(c.waiting, w.correlationID)
	}
	c.count--
}

// Waiting is how many calls wait for their reply now.
func (c *Calls) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}
