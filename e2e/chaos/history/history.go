// Package history is what a chaos run has seen, in the order in which it was seen: requests acknowledged, executions
// at the service, replies, rows of the changelog, commits and faults. It knows nothing of how they came to be seen, and
// judges nothing.
package history

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Kind is what an event is about.
type Kind string

const (
	// Sent is a request that Kafka has acknowledged: Key, Attempt, Topic, Partition, Offset, Written; Duplicate where
	// the key was sent before, Deadline where it has one, and Line where calls are ordered.
	Sent Kind = "sent"
	// Looped is the copy of a request on the loop topic: Key, Attempt, Topic, Partition, Offset, Written, Transaction.
	Looped Kind = "looped"
	// Begin is a call that has reached the service: Key, Attempt, Execution, Instance.
	Begin Kind = "begin"
	// End is its end there: Key, Execution, Instance, Status, Body. Status is CANCELED where the caller went away.
	End Kind = "end"
	// Reply is the end of a call on the reply topic, put together as a reader does: Key, Attempt, Status, Body, Messages, Repeated, Topic,
	// Partition, Offset, Written, Transaction.
	Reply Kind = "reply"
	// Piece is what is on the reply topic of a reply that cannot be put together, or was not ended: Key, Attempt, Messages, Topic, Partition, Offset of the
	// end or the last message, Written, Transaction.
	Piece Kind = "piece"
	// DeadLetter is a request that nobody could answer: Key, Attempt, Body (the reason), Topic, Partition, Offset, Written, Transaction.
	DeadLetter Kind = "dead-letter"
	// Row is a record of the changelog: Key, State, Status, Body, Source, Topic, Partition, Offset, Written, Transaction.
	Row Kind = "row"
	// Waits is a request that is in a row of the changelog, until it has a result: Key, Attempt, Topic, Partition, Offset, Written.
	Waits Kind = "waits"
	// Commit is a committed offset that has changed: Topic, Partition, Offset.
	Commit Kind = "commit"
	// Aborted is the end of a transaction that came to nothing, in one partition: Topic, Partition, Offset, Transaction.
	Aborted Kind = "aborted"
	// Fault is one that has ended: Fault, Instance (empty: all of them are concerned), From, To.
	Fault Kind = "fault"
)

// States of a row.
const (
	Final     = "final"
	Retryable = "retryable"
)

// Faults.
const (
	Kill          = "kill"           // SIGKILL of an instance; From and To are around the signal
	Terminate     = "terminate"      // SIGTERM of an instance; To is when it had ended
	Stop          = "stop"           // SIGTERM of all instances when the faults are over; as Terminate
	Overrun       = "overrun"        // an orderly stop that took longer than the drain time; as Terminate
	Zombie        = "zombie"         // an instance stood still for longer than its session time-out
	BrokerCrash   = "broker-crash"   // SIGKILL of the broker; To is when it was back
	BrokerRestart = "broker-restart" // the broker was stopped in order; To is when it was back
	Outage        = "outage"         // the service was away
	Cut           = "cut"            // an instance could not reach the broker for longer than its session time-out
)

// Event is one observation. The fields that a kind does not name are empty.
type Event struct {
	At   time.Time `json:"at"` // when it was seen, or for Sent and Begin when it happened
	Kind Kind      `json:"kind"`

	Key       string `json:"key,omitempty"` // of the table
	Attempt   string `json:"attempt,omitempty"`
	Duplicate bool   `json:"duplicate,omitempty"`
	Execution string `json:"execution,omitempty"`
	Instance  string `json:"instance,omitempty"`

	State  string `json:"state,omitempty"`
	Status string `json:"status,omitempty"` // name of the gRPC code
	Body   string `json:"body,omitempty"`   // Brief of the reply's message, or the status message of an error

	Messages int `json:"messages,omitempty"` // of the reply, each counted once
	Repeated int `json:"repeated,omitempty"` // records of messages that were there already

	Deadline time.Time `json:"deadline,omitzero"`
	Line     string    `json:"line,omitempty"` // names those of a partition whose calls are to be made one after another

	Topic     string    `json:"topic,omitempty"`
	Partition int32     `json:"partition,omitempty"`
	Offset    int64     `json:"offset,omitempty"`
	Written   time.Time `json:"written,omitzero"` // timestamp of the record, which its producer made: to the millisecond

	// Transaction names the transaction of a record, those of its records for a reply: the id and the epoch of its producer. The epoch is another for each
	// transaction where brokers can do KIP-890, and else for each run of the producer. Empty: none.
	Transaction string `json:"transaction,omitempty"`
	Source      string `json:"source,omitempty"` // Position of the request that was executed for a row

	Fault string    `json:"fault,omitempty"`
	From  time.Time `json:"from,omitzero"`
	To    time.Time `json:"to,omitzero"`
}

// Position names a record.
func Position(topic string, partition int32, offset int64) string {
	return fmt.Sprintf("%s/%d@%d", topic, partition, offset)
}

// Brief is a body as a history keeps it: a long one by its beginning, its length and its hash.
func Brief(body string) string {
	const long, beginning = 200, 40
	if len(body) <= long {
		return body
	}
	return fmt.Sprintf("%s... (%d bytes, %x)", body[:beginning], len(body), sha256.Sum256([]byte(body)))
}

// Recorder collects events in memory and writes each to a file as a line of JSON. Safe for concurrent use.
type Recorder struct {
	mu     sync.Mutex
	events []Event
	file   *os.File
	buffer *bufio.Writer
	lines  *json.Encoder
	err    error // the first of writing
}

// NewRecorder creates the file, or replaces it.
func NewRecorder(path string) (*Recorder, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	b := bufio.NewWriterSize(f, 1<<16)
	return &Recorder{file: f, buffer: b, lines: json.NewEncoder(b)}, nil
}

// Record adds an event, seen now unless it says otherwise.
func (r *Recorder) Record(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	r.events = append(r.events, e)
	if err := r.lines.Encode(e); err != nil && r.err == nil {
		r.err = err
	}
}

// Since are the events from the n-th on.
func (r *Recorder) Since(n int) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[min(n, len(r.events)):len(r.events):len(r.events)]
}

// Events are all events so far.
func (r *Recorder) Events() []Event { return r.Since(0) }

// Close writes what is left and says whether the file is whole.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.err, r.buffer.Flush(), r.file.Close()); err != nil {
		return fmt.Errorf("history %s: %w", r.file.Name(), err)
	}
	return nil
}

// Read reads the lines that a Recorder wrote.
func Read(from io.Reader) ([]Event, error) {
	var events []Event
	lines := json.NewDecoder(from)
	for {
		var e Event
		if err := lines.Decode(&e); errors.Is(err, io.EOF) {
			return events, nil
		} else if err != nil {
			return nil, fmt.Errorf("history, event %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
}
