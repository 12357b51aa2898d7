package consumergroup

import "sync"

// Budget bounds the records in flight of all claims that share it, of any number of groups: their number, and the
// bytes of their keys, values and headers, and of their results (Delivery.Charge). Safe for concurrent use.
//
// A claim with nothing in flight is always served, so that no claim waits for another's end: two partitions that use
// the budget up cannot stop a third. The bounds may be exceeded by one record a claim, and the one of bytes by the
// results of what was in flight already when it was reached.
type Budget struct {
	mu          sync.Mutex // guards what follows
	records     int
	bytes       int64
	usedRecords int
	usedBytes   int64
	waiting     map[*claim]struct{}
}

// NewBudget makes a budget; a bound that is 0 or less is taken as the default of 10000 records, or of 256 MiB.
func NewBudget(records int, bytes int64) *Budget {
	b := &Budget{waiting: make(map[*claim]struct{})}
	b.Set(records, bytes)
	return b
}

// Set changes the bounds, as NewBudget takes them. What is in flight stays so.
func (b *Budget) Set(records int, bytes int64) {
	if records <= 0 {
		records = 10_000
	}
	if bytes <= 0 {
		bytes = 256 << 20
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records, b.bytes = records, bytes
	b.wake()
}

// take takes one record of a claim from the budget; where it does not fit, the claim is woken once there is more
// room. A claim with nothing in flight must be served.
func (b *Budget) take(c *claim, bytes int, must bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !must && (b.usedRecords >= b.records || b.usedBytes+int64(bytes) > b.bytes) {
		b.waiting[c] = struct{}{}
		return false
	}
	delete(b.waiting, c)
	b.usedRecords++
	b.usedBytes += int64(bytes)
	return true
}

// charge takes bytes without asking.
func (b *Budget) charge(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.usedBytes += int64(bytes)
}

// Used is what is in flight.
func (b *Budget) Used() (records int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usedRecords, b.usedBytes
}

// give gives records back. All that wait try again: they are few, and the first may need more room than there is.
func (b *Budget) give(records, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.usedRecords -= records
	b.usedBytes -= int64(bytes)
	b.wake()
}

// wake is called under mu.
func (b *Budget) wake() {
	for c := range b.waiting {
		c.signal()
	}
	clear(b.waiting)
}

// forget ends the waiting of a claim.
func (b *Budget) forget(c *claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiting, c)
}
