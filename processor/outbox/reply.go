package outbox

import (
	"sync"

	"kafkagrpc/wire"
)

// Reply is the reply to one attempt on its way to a topic that may be gone. Its records are all written, or become
// one dead letter of their request together. It is safe for concurrent use.
type Reply struct {
	letter func(reason string) wire.Record // of the request
	pin    *wire.Pin                       // keeps its records in one partition; nil where each finds it by itself

	mu      sync.Mutex
	left    int                  // records that are not answered yet
	begun   bool                 // its first record is out
	kept    error                // why nothing of it is sent: its topic is known to be gone
	whole   bool                 // none of its records is written, or failed otherwise
	waiting []func(int64, error) // who sent the records that found no topic
	err     error                // why
}

// NewReply makes a reply of so many records. letter makes the dead letter that stands for it where its topic is gone. pin may be nil: then
// each record finds its partition by itself, and Record.Sent is told none.
func NewReply(records int, pin *wire.Pin, letter func(reason string) wire.Record) *Reply {
	return &Reply{letter: letter, pin: pin, left: records, whole: true}
}

// keep decides with the first record, for all of them, whether the reply is not even sent.
func (r *Reply) keep(gone func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun {
		r.begun, r.kept = true, gone()
	}
	return r.kept
}

// arrived counts a record that is written, or failed for another reason than a topic that is gone. It reports whether it
// was the last one, and others wait.
func (r *Reply) arrived() (end bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left--
	r.whole = false
	return r.left == 0 && len(r.waiting) > 0
}

// returned counts a record that found no topic; done is called by the last one.
func (r *Reply) returned(done func(int64, error), err error) (last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left--
	r.waiting = append(r.waiting, done)
	r.err = err
	return r.left == 0
}

// result tells, after the last record, who waits and why, and whether a dead letter can stand for the whole reply.
func (r *Reply) result() (waiting []func(int64, error), whole bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting, r.whole, r.err
}
