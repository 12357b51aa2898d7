package processor

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"kafkagrpc/internal/kafka"
)

// A topic that is gone is found out within some seconds. One reply at a time tries it again; the others become dead
// letters at once.
const (
	goneRest  = 10 * time.Second
	goneProbe = 30 * time.Second // longer than a try takes, also while a cluster cannot be reached
	// A producer that has found a topic gone refuses further records for a while without saying so.
	goneEcho = time.Minute
)

// gone are the reply topics that were deleted, or must not be written any more, while the program runs. It is safe
// for concurrent use, and never holds more than the topics of the routes.
type gone struct {
	mu     sync.Mutex
	topics map[string]goneTopic
	closed map[string]error // topics that are not even tried, and why
}

type goneTopic struct {
	since time.Time // when it was last found gone
	next  time.Time // when a reply tries it again; zero: it is back
	err   error
}

func newGone() *gone { return &gone{topics: make(map[string]goneTopic)} }

// lost reports whether err says that the topic is gone, and remembers that.
func (g *gone) lost(topic string, err error, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, known := g.topics[topic]
	echo := known && now.Sub(t.since) < goneEcho && !errors.Is(err, kafka.ErrProducerClosed) && !kafka.Rejected(err)
	if !echo && !kafka.Gone(err) {
		return false
	}
	if !echo {
		t.since, t.err = now, err
	}
	t.next = now.Add(goneRest)
	g.topics[topic] = t
	return true
}

// skip tells why a reply to the topic is not even tried; nil: try.
func (g *gone) skip(topic string, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if why := g.closed[topic]; why != nil {
		return why
	}
	t, known := g.topics[topic]
	if !known || t.next.IsZero() {
		return nil
	}
	if now.Before(t.next) {
		return fmt.Errorf("not tried again yet: %w", t.err)
	}
	t.next = now.Add(goneProbe)
	g.topics[topic] = t
	return nil
}

// close sets the topics that are not even tried.
func (g *gone) close(topics map[string]error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = topics
}

// back is told of each record that the topic has taken.
func (g *gone) back(topic string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t, known := g.topics[topic]; known {
		t.next = time.Time{}
		g.topics[topic] = t
	}
}
