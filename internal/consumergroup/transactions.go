package consumergroup

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Transactions commits the offsets of a group in place of the one below, in transactions together with what is written: a delivery is marked when all that its
// turn wrote is in the open transaction, and the transaction that has it commits what Group.TransactionOffsets then says. Safe for concurrent use.
type Transactions interface {
	// Stir says that there are offsets to commit. It must not wait, nor call the group, nor take a lock that is held where the group is called: it is
	// called often, with locks of claims held.
	Stir()

	// Settle commits all that was written and is finished, and returns when that is done, or cannot be done. It has a deadline of its own. It is called
	// when the handler of a session has gone and before its claims are forgotten.
	Settle() error
}

// MemberOffsets are what a transaction commits for a member of the group.
type MemberOffsets struct {
	MemberID   string
	Generation int32
	Offsets    []CommittedOffset // in the order of topics and partitions; none: there is nothing to commit
}

// CommittedOffset is how far a partition is finished.
type CommittedOffset struct {
	Topic     string
	Partition int32
	Offset    int64  // everything before it is finished
	Metadata  string // what is finished behind it; "": nothing
}

// ErrWrittenLate is that something was written for a claim of which no offset can be committed any more.
var ErrWrittenLate = errors.New("something was written for a partition after its last commit in this session")

// TransactionOffsets are for the transaction that is about to end: of each claim of the session in which a delivery was marked, or something was
// finished, since the last call. Those that only were marked have the offset that they had: the broker refuses
// the transaction of a member whose partitions may have another owner.
//
// A call takes what it tells: where the transaction fails, the group must be ended, and with an error the transaction must be aborted, as it has
// writes whose records come again. The error stays. Only one goroutine calls it at a time.
func (g *Group) TransactionOffsets() (MemberOffsets, error) {
	g.mu.RLock()
	claims := slices.Collect(maps.Values(g.claims))
	g.mu.RUnlock()
	var m MemberOffsets
	for _, c := range claims {
		if o, some := c.takeOffset(); some {
			m.MemberID, m.Generation = c.session.MemberID(), c.session.GenerationID()
			m.Offsets = append(m.Offsets, o)
		}
	}
	// Looked at last: what was marked meanwhile of a claim that went is not among them.
	if err := g.broken.Load(); err != nil {
		return MemberOffsets{}, *err
	}
	slices.SortFunc(m.Offsets, func(a, b CommittedOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return m, nil
}

// takeOffset is what the next transaction commits of the claim, if something happened in it. Where it begins may be known only with its first record, and is
// told then.
func (c *claim) takeOffset() (_ CommittedOffset, some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wrote && !c.changed {
		return CommittedOffset{}, false
	}
	base, runs := c.told(math.MaxInt)
	if base < 0 {
		return CommittedOffset{}, false
	}
	c.wrote, c.changed = false, false
	return CommittedOffset{Topic: c.Topic(), Partition: c.Partition(), Offset: base, Metadata: encodeAll(base, runs)}, true
}

// written says that the open transaction has something of the claim. The caller holds c.mu.
func (c *claim) written() {
	switch {
	case c.options.Transactions == nil:
	case c.gone:
		c.late()
	default:
		c.wrote = true
		c.options.Transactions.Stir()
	}
}

// change says that the next transaction has something else to say of the claim. The caller holds c.mu.
func (c *claim) change() {
	if c.options.Transactions != nil {
		c.changed = true
		c.options.Transactions.Stir()
	}
}

// leaveTransactions says that no transaction commits anything of the claim any more.
func (c *claim) leaveTransactions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrote {
		c.late()
	}
	c.gone = true
}

func (g *Group) wroteLate() { g.breakTransactions(ErrWrittenLate) }

func (g *Group) breakTransactions(err error) { g.broken.CompareAndSwap(nil, &err) }

// settleTransactions commits what the claims have finished. Where that fails, nobody knows whether it is committed, and the handler has state of what is not: Consume ends.
func (h *sessionHandler) settleTransactions() {
	transactions := h.group.options.Transactions
	if transactions == nil || len(h.session.claims) == 0 { // nobody adds one any more
		return
	}
	if err := transactions.Settle(); err != nil {
		err = fmt.Errorf("committing what is finished at the end of a session: %w", err)
		h.group.breakTransactions(err)
		if !h.group.Stalled() { // which tells more
			h.fail(err)
		}
	}
}
