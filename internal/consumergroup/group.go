package consumergroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/wire"
)

// Options bound what a Group keeps in flight.
type Options struct {
	MaxInFlight      int     // unfinished records per claim at which it reads no more; default 1000
	MaxInFlightBytes int     // of their keys, values and headers, default 64 MiB; one record is always let in
	MaxUncommitted   int     // records per claim after its committed offset at which it reads no more; default 100000
	Budget           *Budget // bounds the claims of several groups together; default one of the group's own

	// Committed asks the broker what the group has committed for its claims. With it, what is finished behind an
	// unfinished record is kept in the metadata of commits (at most 4096 characters, Kafka's default), and is not
	// delivered again after a crash. It is called once a session and must have a deadline; nil: all of it comes again.
	Committed func(claims map[string][]int32) (*sarama.OffsetFetchResponse, error)

	// Transactions commits the offsets of the group in place of the one below, which is told nothing; nil: that one commits. With it a session does not begin
	// as long as Committed fails, the metadata leaves nothing out, and claims read no more than maxSpan offsets behind an unfinished record.
	Transactions Transactions

	// Offsets asks the broker what claims do not tell. With it, what is committed passes offsets of no record,
	// ClaimState.Lag is up to date, and what a claim cannot read because it is gone is told to Gone. nil: none of that.
	Offsets Offsets
	Gone    func(Gap) // it must not wait long, and is told again only where the process ended meanwhile

	Drain          time.Duration // what unfinished records get when a session ends; default 10s; must be below the rebalance time-out
	SessionTimeout time.Duration // of the group at the broker; default 10s

	// EndWhenFrozen ends Consume with ErrStoodStill when the process stood still for half of SessionTimeout.
	EndWhenFrozen bool

	// Heartbeat sends a heartbeat for a member, and answers nil when the coordinator says that it is one. With it, Consume
	// ends with ErrOutOfTouch when none was answered for nearly SessionTimeout. It must have a deadline below that.
	Heartbeat func(memberID string, generation int32) error

	// Partitions is how many partitions of each topic the handler knows; 0: all. The records of further ones are given to
	// Surplus, which calls done, possibly on another goroutine, when they are where the handler gets them, or with the error
	// that ends Consume.
	Partitions int32
	Surplus    func(record *wire.Record, done func(error))

	Log *slog.Logger // default slog.Default()

	inFlight *inFlight // MaxInFlight and MaxInFlightBytes, as they are now
}

// inFlight bounds what is in flight of each claim of a group.
type inFlight struct{ records, bytes atomic.Int64 }

func (o Options) withDefaults() Options {
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 1000
	}
	if o.MaxInFlightBytes <= 0 {
		o.MaxInFlightBytes = 64 << 20
	}
	if o.Budget == nil {
		o.Budget = NewBudget(0, 0)
	}
	if o.MaxUncommitted <= 0 {
		o.MaxUncommitted = 100_000
	}
	if o.Drain <= 0 {
		o.Drain = 10 * time.Second
	}
	if o.SessionTimeout <= 0 {
		o.SessionTimeout = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// Group is a sarama.ConsumerGroup whose handler may finish records asynchronously. Safe for concurrent use, but like
// sarama's it runs one Consume at a time.
type Group struct {
	sarama.ConsumerGroup
	options   Options
	nextClaim atomic.Uint64
	freeze    freeze
	lease     lease

	claimed chan struct{} // there is another claim

	broken atomic.Pointer[error] // why no transaction may be committed any more

	abandoned atomic.Pointer[error]

	mu     sync.RWMutex
	claims map[uint64]*claim // of the current session
	rejoin func()            // ends the current session
}

// New makes a group that joins nothing before Wrap gave it a consumer group.
func New(o Options) *Group {
	o = o.withDefaults()
	o.inFlight = &inFlight{}
	o.inFlight.set(o)
	return &Group{
		options: o,
		freeze:  freeze{limit: o.SessionTimeout / 2, log: o.Log},
		lease:   lease{limit: o.SessionTimeout * 19 / 20, log: o.Log}, // less what it takes to notice its end
		claims:  make(map[uint64]*claim),
		claimed: make(chan struct{}, 1),
	}
}

func (b *inFlight) set(o Options) {
	b.records.Store(int64(o.MaxInFlight))
	b.bytes.Store(int64(o.MaxInFlightBytes))
}

// SetInFlight changes Options.MaxInFlight and Options.MaxInFlightBytes. What is in flight stays so.
func (g *Group) SetInFlight(records, bytes int) {
	g.options.inFlight.set(Options{MaxInFlight: records, MaxInFlightBytes: bytes}.withDefaults())
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, c := range g.claims {
		c.signal()
	}
}

// Stalled reports whether, since Consume began, the process stood still or could not reach the coordinator for so long
// that the partitions of its claims may have another owner. What is written to Kafka then may contradict what the other
// owner writes; its commits are harmless, because the group refuses them. It stays true, as after Abandon. Else it is false without
// Options.EndWhenFrozen and Options.Heartbeat.
func (g *Group) Stalled() bool { return g.Lost() != nil }

// Lost is why the group is Stalled, nil while it is not.
func (g *Group) Lost() error {
	why := g.abandoned.Load()
	switch {
	case why != nil:
		return *why
	case g.freeze.found():
		return ErrStoodStill
	case g.lease.found():
		return ErrOutOfTouch
	default:
		return nil
	}
}

// Abandon ends the group as one that has lost its partitions: nothing more is delivered or drained, and Consume ends with an error.
func (g *Group) Abandon(why error) {
	if g.abandoned.CompareAndSwap(nil, &why) {
		g.Rejoin()
	}
}

// Claim is a claim of the group below, whose records come in batches.
type Claim interface {
	sarama.ConsumerGroupClaim // but for Messages, which is not asked for

	// Records are batches of what was read, in the order of their offsets; closed when the claim has ended. They are not changed any more.
	Records() <-chan []wire.Record
}

// Wrap puts the group in front of inner, which it then owns, and returns itself. It must be called before Consume. The claims of inner must be of type Claim.
// The balance strategy of inner must be an eager one: a
// claim that is revoked while its session goes on would be kept until the session ends.
func (g *Group) Wrap(inner sarama.ConsumerGroup) *Group {
	g.ConsumerGroup = inner
	return g
}

// Consume joins the group and goes on joining it after each rebalance, until ctx ends (nil), the handler fails (its
// error), a topic does not exist (any more) or the group is closed. Errors of the brokers are logged and tried again, with a backoff from 100ms to 5s:
// a caller such as goka would take them for the end, and sleep 5s between two sessions.
func (g *Group) Consume(ctx context.Context, topics []string, handler sarama.ConsumerGroupHandler) error {
	const first, most = 100 * time.Millisecond, 5 * time.Second
	const settled = time.Second // a session that lasted this long was a real one
	backoff := first
	// Sessions inherit the end of ctx, but not its cause: a claim takes a cause for the verdict of the group below on who owns the
	// partition, and the error of another part of the program would cut its drain short.
	sessions, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, end)()
	if g.options.EndWhenFrozen || g.options.Heartbeat != nil {
		defer g.watched(ctx, end)()
	}
	if g.options.Offsets != nil {
		defer g.lookedAfter(ctx)()
	}
	for {
		h := &sessionHandler{group: g, next: handler}
		begun := time.Now()
		one, rejoin := context.WithCancel(sessions)
		g.mu.Lock()
		g.rejoin = rejoin
		g.mu.Unlock()
		err := g.ConsumerGroup.Consume(one, topics, h)
		rejoins := one.Err() != nil
		rejoin()
		switch {
		case h.err != nil:
			return h.err
		case ctx.Err() != nil:
			return nil
		case g.Stalled():
			return g.Lost()
		case errors.Is(err, sarama.ErrClosedConsumerGroup):
			return err
		case errors.Is(err, sarama.ErrUnknownTopicOrPartition): // after it was searched for
			return fmt.Errorf("joining the consumer group for topics %s: %w", strings.Join(topics, ", "), err)
		case rejoins, err == nil && time.Since(begun) >= settled:
			backoff = first
			continue
		case err != nil:
			g.options.Log.Warn("joining the consumer group failed, trying again", "topics", topics, "error", err, "backoff", backoff)
		}
		// Also after a session that ended at once: a partition that cannot be read must not make a join storm.
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil
		}
		backoff = min(2*backoff, most)
	}
}

// Rejoin ends the current session as a rebalance would. When the leader of the group has done so, all partitions that the topics
// have by then are given out anew.
func (g *Group) Rejoin() {
	g.mu.RLock()
	rejoin := g.rejoin
	g.mu.RUnlock()
	if rejoin != nil {
		rejoin()
	}
}

// watched watches the group until stop is called, which waits for its end: claims are drained, and must be watched, after
// ctx has ended. Where the partitions may have another owner it calls end.
func (g *Group) watched(ctx context.Context, end func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(g.freeze.limit / 10)
		defer tick.Stop()
		defer g.freeze.forget()
		for !g.Stalled() {
			if g.options.EndWhenFrozen {
				g.freeze.remember()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		end()
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

func (g *Group) register(c *claim) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.claims[c.id] = c
	select {
	case g.claimed <- struct{}{}:
	default:
	}
}

func (g *Group) unregister(c *claim) {
	c.leaveTransactions() // first: a snapshot has the claim, or an error
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.claims, c.id)
}

func (g *Group) claim(id uint64) *claim {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.claims[id]
}
