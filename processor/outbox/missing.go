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
	longestRest = 5 * time.Minute // where a try is costly

	// How long replies under a key become dead letters of which Kafka has refused one, and how many such keys are known at once.
	refusedRest = 10 * time.Minute
	mostRefused = 1000
	// carefulTime is how long records are sent one by one after one was refused with others.
	carefulTime = time.Minute
)

// MissingTopics are the reply topics that were deleted, or must not be written any more, while the program runs. Safe
// for concurrent use; it never holds more than the topics of the routes.
type MissingTopics struct {
	costly bool // a try that fails ends the processor

	mu      sync.Mutex
	topics  map[string]missingTopic
	leftOut map[string]error // topics that are not even tried, and why
	refused map[refusal]refusedReplies
	careful bool // Kafka has refused one of several records
}

// refusal are the replies under a key to a topic.
type refusal struct{ topic, key string }

type refusedReplies struct {
	until time.Time
	err   error
}

type missingTopic struct {
	since time.Time // when it was last found gone
	next  time.Time // when a reply tries it again; zero: it is back
	rest  time.Duration
	err   error
}

// NewMissingTopics knows of none. costly says that a reply that is not written ends the processor: then topics rest for longer each time.
func NewMissingTopics(costly bool) *MissingTopics {
	return &MissingTopics{costly: costly, topics: make(map[string]missingTopic), refused: make(map[refusal]refusedReplies)}
}

// Refuse notes that Kafka has refused a record for what it is; alone, or with others of which one is to blame.
func (m *MissingTopics) Refuse(topic string, key []byte, alone bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !alone {
		m.careful = true
		return
	}
	if len(m.refused) >= mostRefused {
		clear(m.refused)
	}
	m.refused[refusal{topic, string(key)}] = refusedReplies{time.Now().Add(refusedRest), err}
}

// Careful is for how long the next producer is to send records one by one, so that one that is refused is known. It answers once for each refusal.
func (m *MissingTopics) Careful() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	careful := m.careful
	m.careful = false
	if careful {
		return carefulTime
	}
	return 0
}

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
	t.rest = min(max(missingRest, 2*t.rest), longestRest)
	if !m.costly {
		t.rest = missingRest
	}
	t.next = now.Add(t.rest)
	m.topics[topic] = t
	return true
}

// skip tells why a reply to the topic, under a key, is not even tried; nil: try.
func (m *MissingTopics) skip(topic string, key []byte, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, is := m.refused[refusal{topic, string(key)}]; is && now.Before(r.until) {
		return r.err
	}
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
		t.next, t.rest = time.Time{}, 0
		m.topics[topic] = t
	}
}
