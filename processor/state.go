package processor

import (
	"fmt"
	"iter"
	"maps"
	"strings"
	"time"

	"github.com/lovoo/goka"

	"kafkagrpc/internal/tablestore"
)

// State is what a Processor is about.
type State struct {
	Ready bool
	// Reason says what is not ready, and why; empty when Ready.
	Reason string

	// LeftOut are the topics that cannot be used, and why, while the others are; it can be Ready nevertheless. Requests
	// in them wait there, and requests that they should take the replies of become dead letters.
	LeftOut map[string]error

	// Surplus are the topics that have more partitions than the group, and what becomes of the further ones. It can be Ready
	// nevertheless.
	Surplus map[string]string

	Partitions int // assigned to this instance; with 0 of them it can be Ready, too

	// Recovering is the number of partitions whose rows are still read from the changelog, among them standby copies;
	// Read and Total are the records of the changelog that this means, with those of the partitions that have recovered.
	Recovering  int
	Read, Total int64

	// Err is why the last run ended, until another is ready, and NextTry when another is started; zero when it is.
	Err     error
	NextTry time.Time
}

// State tells whether the processor answers requests, and if not, what it waits for. It never waits itself: those who ask
// whether the process is well need the answer most when a broker or the disk hangs.
func (p *Processor) State() State {
	p.mu.RLock()
	s := State{Partitions: len(p.parts), Err: p.ended, NextTry: p.nextTry, LeftOut: p.left}
	current, running, changelog := p.current, p.running, p.changelog
	s.recovery(maps.Keys(p.stores))
	if len(p.counts) > 0 {
		s.Surplus = make(map[string]string, len(p.counts))
	}
	for topic, n := range p.counts {
		s.Surplus[topic] = p.surplus(topic, n)
	}
	p.mu.RUnlock()

	if running != nil && p.recovered(running) {
		s.Ready = true
		return s
	}
	var why []string
	switch {
	case !s.NextTry.IsZero():
		s.Reason = fmt.Sprintf("the processor ended: %v; another one starts at %s", s.Err, s.NextTry.Format(time.RFC3339))
		return s
	case current == nil:
		why = append(why, "the processor is not running")
	default:
		why = append(why, s.waitsFor(current))
		if waits := changelog.waits(); waits != "" {
			why = append(why, waits)
		}
	}
	if s.Err != nil {
		why = append(why, fmt.Sprintf("the last processor ended: %v", s.Err))
	}
	s.Reason = strings.Join(why, "; ")
	return s
}

// recovered reports whether goka's processor runs and has all rows. goka alone says so for a moment, too, when it has given
// the recovery up.
func (p *Processor) recovered(g *goka.Processor) bool {
	if !g.Recovered() {
		return false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	has := 0
	for s := range p.stores {
		if !s.IsRecovered() {
			return false
		}
		if p.parts[s.Partition] != nil {
			has++
		}
	}
	return has == len(p.parts)
}

// recovery sums up what the stores say, of which some are recovered already.
func (s *State) recovery(stores iter.Seq[*tablestore.Store]) {
	var all, lacks int64
	for store := range stores {
		read, left := store.Recovery()
		all += read
		lacks += left
		if left > 0 {
			s.Recovering++
		}
	}
	if s.Recovering > 0 {
		s.Read, s.Total = all, all+lacks
	}
}

func (s *State) waitsFor(g *goka.Processor) string {
	switch state := g.StateReader().State(); {
	case s.Recovering > 0:
		return fmt.Sprintf("recovering %d partitions of the table: %d of %d records of the changelog read", s.Recovering, s.Read, s.Total)
	case state <= goka.ProcStateStarting:
		return "starting: joining the consumer group"
	case state == goka.ProcStateSetup:
		return "opening the local stores of the assigned partitions"
	default:
		return "a rebalance of the consumer group goes on"
	}
}
