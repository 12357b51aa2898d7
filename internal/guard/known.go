package guard

import (
	"crypto/sha256"
	"sync"
)

// maxKnown bounds the callers that are kept, twice: the younger ones and the older ones.
const maxKnown = 5000

// known are callers by their tokens, of which it keeps hashes alone. To look at a token costs more than all else that is done for
// a call before Kafka.
type known struct {
	mu             sync.Mutex
	generation     int // of the keys: what was verified with those of before counts no more
	younger, older map[[sha256.Size]byte]*Caller
}

func newKnown() *known { return &known{younger: map[[sha256.Size]byte]*Caller{}} }

// get answers nil for who is not known.
func (k *known) get(token string) (c *Caller, generation int) {
	hash := sha256.Sum256([]byte(token))
	k.mu.Lock()
	defer k.mu.Unlock()
	if c = k.younger[hash]; c == nil {
		if c = k.older[hash]; c != nil {
			k.add(hash, c)
		}
	}
	return c, k.generation
}

// put keeps who was verified since get had answered the generation.
func (k *known) put(token string, c *Caller, generation int) {
	hash := sha256.Sum256([]byte(token))
	k.mu.Lock()
	defer k.mu.Unlock()
	if generation == k.generation {
		k.add(hash, c)
	}
}

// add is called under mu.
func (k *known) add(hash [sha256.Size]byte, c *Caller) {
	if len(k.younger) >= maxKnown {
		k.younger, k.older = map[[sha256.Size]byte]*Caller{}, k.younger
	}
	k.younger[hash] = c
}

// forget is called when the keys are others.
func (k *known) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.generation++
	k.younger, k.older = map[[sha256.Size]byte]*Caller{}, nil
}
