package views

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"kafkagrpc/internal/kafka"
)

const (
	// What the feed keeps in memory of the last changes, at most. One change is always kept.
	feedChanges = 1 << 14
	feedBytes   = 32 << 20

	// maxWatchers is for one table. Each has a goroutine and a connection, but no queue.
	maxWatchers = 2000
	// maxClientWatchers are those of one client: none can take the places of the others.
	maxClientWatchers = 200
	// watchBatch is how many changes are taken from the feed at once.
	watchBatch = 64
)

var (
	errClosed = errors.New("the view is being stopped; connect again to go on")
	errSlow   = errors.New("the watcher did not take the changes as fast as they came, and some that it has not seen are forgotten; " +
		"go on from the cursor of the last change that was seen")
	errWatchers   = &tooMany{fmt.Sprintf("the table has %d watchers already, which is the most: try again later, or at another instance", maxWatchers)}
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

// feed has the last changes of a table, in the order in which they were read. Watchers read it, each at its own pace, by a subscription:
// there is no queue per watcher, and one that falls behind what the feed keeps is told. Its methods are safe for concurrent use.
type feed struct {
	mu       sync.Mutex // nothing else is locked while it is held
	id       string     // of the topic
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

// add adds a change, unless it is one of before that is read again.
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

// arrange puts the changes in the order of their times, those of each partition in their own: partitions were read beside each other.
// Where somebody watches, they stay as they were seen.
func (f *feed) arrange() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers > 0 {
		return
	}
	at := make([]int64, len(f.next)) // by partition: time of the last change that has one
	times := make(map[*change]int64, len(f.changes))
	for _, c := range f.changes {
		pb := parseRow(c.value).pb
		at[c.partition] = max(at[c.partition], pb.GetFinishedMs(), pb.GetStartedMs())
		times[c] = at[c.partition]
	}
	slices.SortStableFunc(f.changes, func(a, b *change) int { return cmp.Compare(times[a], times[b]) })
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

// close tells watchers, once they have taken all changes, that there are no more.
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

// counts are the changes that were ever added, and the watchers that there are.
func (f *feed) counts() (changes int64, watchers int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total, int32(f.watchers)
}

// subscription is one watcher's place in a feed. One goroutine uses it, which closes it in the end.
type subscription struct {
	feed   *feed
	client string
	id     string  // of the topic
	epoch  int     // of the feed
	at     uint64  // number of the next change to take
	next   []int64 // by partition: offset of the next change to pass
	stored []int64 // as in place

	// All changes of before asOf were passed; zero: it is not known of when. due becomes asOf when all changes below upTo were.
	asOf, due time.Time
	upTo      uint64
	lag       int64 // changes that were not passed yet, as far as it is known
}

// place is where a subscription begins.
type place struct {
	topic  string  // its id
	stored []int64 // by partition: all changes below were read; the feed does not know it where nothing was added
	after  []int64 // by partition: offset of the next change to pass; nil: from now
	recent int     // from now: so many of the last changes that pass, as far as the feed has them
	passes func(*change) bool
}

// subscribe answers a *tooMany where the table or the client has too many watchers, and errOtherTable where the place is not of the
// feed's topic.
func (f *feed) subscribe(client string, from place) (*subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.watchers >= maxWatchers:
		return nil, errWatchers
	case f.clients[client] >= maxClientWatchers:
		return nil, &tooMany{fmt.Sprintf("the client %s has %d watchers of the table already, which is the most for one address: end some, or watch more keys with each",
			client, maxClientWatchers)}
	case f.id != from.topic || len(f.next) != len(from.stored):
		return nil, errOtherTable
	}
	s := &subscription{feed: f, client: client, id: f.id, epoch: f.epoch, stored: from.stored}
	if from.after != nil {
		s.next, s.at = from.after, f.first
	} else {
		s.next, s.at = orStored(f.next, from.stored), f.end()
		for passed := 0; s.at > f.first && passed < from.recent; {
			s.at--
			c := f.changes[s.at-f.first]
			s.next[c.partition] = c.offset
			if from.passes(c) {
				passed++
			}
		}
		s.look()
	}
	f.watchers++
	f.clients[client]++
	return s, nil
}

// orStored are offsets of the feed, or those that are stored where the feed does not know any.
func orStored(offsets, stored []int64) []int64 {
	offsets = slices.Clone(offsets)
	for i, offset := range offsets {
		if offset < 0 {
			offsets[i] = stored[i]
		}
	}
	return offsets
}

// close gives the place back.
func (s *subscription) close() {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers--
	if f.clients[s.client]--; f.clients[s.client] == 0 {
		delete(f.clients, s.client)
	}
}

// missing are the parts of the topic between the subscription and what the feed has. They are to be read from the topic.
func (s *subscription) missing() []kafka.Span {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.epoch != s.epoch {
		return nil // take tells it
	}
	s.at = max(s.at, f.first)
	s.lag = f.fresh.Lag + int64(f.end()-s.at)
	var missing []kafka.Span
	for i, to := range orStored(f.low, s.stored) {
		if s.next[i] < to {
			missing = append(missing, kafka.Span{Partition: int32(i), From: s.next[i], To: to})
			s.lag += to - s.next[i]
		}
	}
	return missing
}

// take waits for changes, of which it answers some. There are none where wake comes first, or where the subscription has just caught up, so
// that its freshness is known. It answers errSlow where the feed has forgotten some, errOtherTable where the topic was made anew, and
// what close was told once there are no more.
func (s *subscription) take(ctx context.Context, wake <-chan time.Time) ([]*change, error) {
	for woken := false; ; {
		changes, changed, err := s.poll() // also when it is woken: it is as fresh as it can be then
		if changed == nil || woken {
			return changes, err
		}
		select {
		case <-changed:
		case <-wake:
			woken = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// poll is take, but for the waiting: it answers what to wait for where there is nothing to answer.
func (s *subscription) poll() (changes []*change, changed <-chan struct{}, err error) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.epoch != s.epoch:
		return nil, nil, errOtherTable
	case s.at < f.first:
		return nil, nil, errSlow
	}
	caughtUp := s.look()
	if i := int(s.at - f.first); i < len(f.changes) {
		changes = slices.Clone(f.changes[i:min(i+watchBatch, len(f.changes))])
		s.at += uint64(len(changes))
		return changes, nil, nil
	}
	if f.ended != nil || caughtUp {
		return nil, nil, f.ended
	}
	return nil, f.await(), nil
}

// look takes from the feed how fresh the subscription is, of which everything below at was passed, and reports whether that is known since
// now. The caller holds the feed's mu.
func (s *subscription) look() (caughtUp bool) {
	f := s.feed
	before := s.asOf
	if s.at >= s.upTo {
		s.asOf, s.due, s.upTo = s.due, f.fresh.AsOf, f.upTo
	}
	if s.at >= s.upTo {
		s.asOf = s.due
	}
	s.lag = f.fresh.Lag + int64(f.end()-s.at)
	return before.IsZero() && !s.asOf.IsZero()
}

// pass notes that a change passes, and reports whether it had not done so before.
func (s *subscription) pass(c *change) bool {
	s.lag = max(0, s.lag-1)
	if c.offset < s.next[c.partition] {
		return false
	}
	s.next[c.partition] = c.offset + 1
	return true
}

// passed notes that all changes of a part of the topic were passed.
func (s *subscription) passed(span kafka.Span) {
	s.next[span.Partition] = max(s.next[span.Partition], span.To)
}

func (s *subscription) freshness() Freshness { return Freshness{AsOf: s.asOf, Lag: s.lag} }

// cursor tells where to go on after all that were passed.
func (s *subscription) cursor() string { return encodeWatchCursor(s.id, s.next) }
