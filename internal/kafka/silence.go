package kafka

import (
	"maps"
	"sync"
	"time"
)

// silenceMemory is how long it is remembered of a broker that it was silent. A slow one gets all the time it may take
// again after that.
const silenceMemory = 10 * time.Second

// briefly is the time that a broker has to greet after it was silent. One that is there needs much less.
const briefly = 500 * time.Millisecond

// silence knows which brokers were silent lately. These get less time to greet: sarama does not remember them, takes any broker
// for the next question as soon as another one has named it, and lets all others of a client wait meanwhile.
type silence struct {
	mu    sync.Mutex
	since map[string]time.Time // by address
}

// silent is what all clients of the process have found out.
var silent = silence{since: make(map[string]time.Time)}

// lately reports whether the broker was silent a short time ago, and has not answered since.
func (s *silence) lately(address string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.since[address]
	return ok && time.Since(at) < silenceMemory
}

func (s *silence) remember(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.since, func(_ string, at time.Time) bool { return now.Sub(at) >= silenceMemory })
	s.since[address] = now
}

func (s *silence) forget(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.since, address)
}
