package outbox

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
	missingRest  = 10 * time.Second
	missingProbe = 30 * time.Second // longer than a try takes, also while a cluster cannot be reached
	// A producer that has found a topic gone refuses further records for a while without saying so.
	missingEcho = time.Minute
)

// MissingTopics are the reply topics that were deleted, or must not be written any more, while the program runs. Safe
// for concurrent use; it never holds more than the topics of the routes.
type MissingTopics struct {
	mu      sync.Mutex
	topics  map[string]missingTopic
	leftOut map[string]error // topics that are not even tried, and why
}

type missingTopic struct {
	since time.Time // when it was last found gone
	next  time.Time // when a reply tries it again; zero: it is back
	err   error
}

// NewMissingTopics knows of none.
func NewMissingTopics() *MissingTopics { return &MissingTopics{topics: make(map[string]missingTopic)} }

// lost reports whether err says that the topic is gone, and remembers that.
func (m *MissingTopics) lost(topic string, err error, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, known := m.topics[topic]
	echo := known && now.Sub(t.since) < missingEcho && !errors.Is(err, kafka.ErrProducerClosed) && !kafka.Rejected(err)
	if !echo && !kafka.Gone(err) {
		return false
	}
	if !echo {
		t.since, t.err = now, err
	}
	t.next = now.Add(missingRest)
	m.topics[topic] = t
	return true
}

// skip tells why a reply to the topic is not even tried; nil: try.
func (m *MissingTopics) skip(topic string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if why := m.leftOut[topic]; why != nil {
		return why
	}
	t, known := m.topics[topic]
	if !known || t.next.IsZero() {
		return nil
	}
	if now.Before(t.next) {
		return fmt.Errorf("not tried again yet: %w", t.err)
	}
	t.next = now.Add(missingProbe)
	m.topics[topic] = t
	return nil
}

// LeaveOut sets the topics that are not even tried, and why.
func (m *MissingTopics) LeaveOut(topics map[string]error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leftOut = topics
}

// back is told of each record that the topic has taken.
func (m *MissingTopics) back(topic string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, known := m.topics[topic]; known {
		t.next = time.Time{}
		m.topics[topic] = t
	}
}
