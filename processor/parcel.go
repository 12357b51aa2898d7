package processor

import (
	"sync"

	"github.com/lovoo/goka"

	"kafkagrpc/wire"
)

// parcel is the reply to one attempt on its way to a topic that may be gone. Its records are all written, or become
// one dead letter of their request together. It is safe for concurrent use.
type parcel struct {
	letter func(reason string) wire.Record // of the request
	pin    *wire.Pin                       // keeps its records in one partition; nil where each finds it by itself

	mu      sync.Mutex
	left    int                    // records that are not answered yet
	begun   bool                   // its first record is out
	kept    error                  // why nothing of it is sent: its topic is known to be gone
	whole   bool                   // none of its records is written, or failed otherwise
	waiting []goka.PromiseFinisher // of the records that found no topic
	err     error                  // why
}

func newParcel(records int, letter func(string) wire.Record) *parcel {
	return &parcel{letter: letter, left: records, whole: true}
}

// keep decides with the first record, for all of them, whether the parcel is not even sent.
func (p *parcel) keep(gone func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		p.begun, p.kept = true, gone()
	}
	return p.kept
}

// arrived counts a record that is written, or failed for another reason than a topic that is gone. It reports whether it
// was the last one, and others wait.
func (p *parcel) arrived() (end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
	p.whole = false
	return p.left == 0 && len(p.waiting) > 0
}

// returned counts a record that found no topic; finish is called by the last one.
func (p *parcel) returned(finish goka.PromiseFinisher, err error) (last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
	p.waiting = append(p.waiting, finish)
	p.err = err
	return p.left == 0
}

// result tells, after the last record, who waits and why, and whether a dead letter can stand for the whole reply.
func (p *parcel) result() (waiting []goka.PromiseFinisher, whole bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting, p.whole, p.err
}
