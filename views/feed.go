package views

import (
	"bytes"
	"errors"
	"sync"
)

// What the feed keeps in memory of the last changes, at most. One change is always kept.
const (
	feedChanges = 1 << 14
	feedBytes   = 32 << 20
)

var (
	errClosed = errors.New("the view is being stopped; connect again to go on")
	errSlow   = errors.New("the watcher did not take the changes as fast as they came, and some that it has not seen are forgotten; " +
		"go on from the cursor of the last change that was seen")
	errOtherTable = errors.New("the table's topic was made anew: what was seen is of the deleted one; watch from now")
)

// change is one record of the table's topic.
type change struct {
	partition int32
	offset    int64
	key       string
	value     []byte // nil: removed

	parse  sync.Once
	parsed row
}

// row decodes the value, once for all watchers.
func (c *change) row() row {
	c.parse.Do(func() { c.parsed = parseRow(c.value) })
	return c.parsed
}

// feed has the last changes of a table, in the order in which they were read. Watchers read it, each at its own pace: there
// is no queue per watcher, and one that falls behind what the feed keeps is told.
type feed struct {
	mu       sync.Mutex
	id       string // of the topic
	changes  []*change
	first    uint64  // number of changes[0]; changes are numbered from 1
	bytes    int     // of the changes
	next     []int64 // by partition: offset of the next change that is added; -1: not known
	low      []int64 // by partition: all offsets from here on are in the feed; -1: not known
	total    int64
	watchers int
	clients  map[string]int // watchers by who watches
	fresh    Freshness      // of the table when it was last measured
	upTo     uint64         // number of the first change that fresh does not tell of
	changed  chan struct{}  // closed when something is added; nil while nobody waits
	ended    error          // once there are no more changes
	epoch    int            // counts the topics
}

func newFeed() *feed { return &feed{first: 1, clients: map[string]int{}} }

// begin is called before the changes of a topic are added. Where it is the topic of before, they may be known already.
func (f *feed) begin(id string, partitions int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.id == id && len(f.next) == partitions {
		return
	}
	f.id, f.changes, f.bytes = id, nil, 0
	f.first++ // watchers of before are behind
	f.epoch++
	f.fresh, f.upTo = Freshness{}, 0
	f.next, f.low = make([]int64, partitions), make([]int64, partitions)
	for i := range f.next {
		f.next[i], f.low[i] = -1, -1
	}
	f.wake()
}

func (f *feed) add(partition int32, offset int64, key string, value []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if offset < f.next[partition] {
		return // read again
	}
	if f.low[partition] < 0 {
		f.low[partition] = offset
	}
	f.next[partition] = offset + 1
	f.total++
	// The bytes are a part of what was fetched together.
	f.changes = append(f.changes, &change{partition: partition, offset: offset, key: key, value: bytes.Clone(value)})
	f.bytes += len(key) + len(value)
	for len(f.changes) > 1 && (len(f.changes) > feedChanges || f.bytes > feedBytes) {
		old := f.changes[0]
		f.changes[0] = nil
		f.changes = f.changes[1:]
		f.first++
		f.bytes -= len(old.key) + len(old.value)
		f.low[old.partition] = old.offset + 1
	}
	f.wake()
}

// measured notes how fresh the table is: it has added all changes that this tells of before.
func (f *feed) measured(fresh Freshness) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fresh.AsOf.Before(f.fresh.AsOf) {
		return
	}
	f.fresh, f.upTo = fresh, f.end()
}

// end is the number of the next change that is added. The caller holds mu.
func (f *feed) end() uint64 { return f.first + uint64(len(f.changes)) }

// wake wakes those that wait. The caller holds mu.
func (f *feed) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (f *feed) close(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = why
	f.wake()
}

// await is closed at the next change. The caller holds mu.
func (f *feed) await() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}
