package consumergroup

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/IBM/sarama"
)

// session is one generation of the group as the handler sees it: its context outlives that of the group below by the drain.
type session struct {
	sarama.ConsumerGroupSession
	most   int32 // partitions that the handler knows; 0: all
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	claims map[topicPartition]*claim
}

type topicPartition struct {
	topic     string
	partition int32
}

// Claims are those that the handler knows.
func (s *session) Claims() map[string][]int32 {
	claims := s.ConsumerGroupSession.Claims()
	if s.most == 0 {
		return claims
	}
	known := make(map[string][]int32, len(claims))
	for topic, partitions := range claims {
		known[topic] = slices.DeleteFunc(slices.Clone(partitions), func(p int32) bool { return p >= s.most })
	}
	return known
}

// Context ends when every claim is drained.
func (s *session) Context() context.Context { return s.ctx }

// MarkOffset is the mark of a token, which says nothing: deliveries are marked one by one.
func (s *session) MarkOffset(string, int32, int64, string) {}

// MarkMessage is MarkOffset for a message.
func (s *session) MarkMessage(*sarama.ConsumerMessage, string) {}

// sessionHandler stands between the group below and the handler for one call of Consume.
type sessionHandler struct {
	group   *Group
	next    sarama.ConsumerGroupHandler
	session *session
	commits *sarama.OffsetFetchResponse // as the session began with them; nil: not known
	setUp   bool                        // next is
	err     error                       // why the handler ended the session, if it did
	release func()                      // ends the heartbeats of the session
}

// Setup implements sarama.ConsumerGroupHandler.
func (h *sessionHandler) Setup(inner sarama.ConsumerGroupSession) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(inner.Context()))
	h.session = &session{ConsumerGroupSession: inner, most: h.group.options.Partitions, ctx: ctx, cancel: cancel, claims: make(map[topicPartition]*claim)}
	h.release = h.group.holdLease(inner)
	// Nothing is in flight during set-up (recovery of state, for instance): there the two contexts end together.
	stop := context.AfterFunc(inner.Context(), cancel)
	defer stop()
	if committed := h.group.options.Committed; committed != nil {
		var err error
		if h.commits, err = committed(inner.Claims()); err != nil {
			if h.group.options.Transactions != nil {
				return fmt.Errorf("what was finished before is not known: %w", err)
			}
			h.group.options.Log.Warn("what was finished before is not known, and is handled again", "error", err)
		}
	}
	h.setUp = true
	err := h.next.Setup(h.session)
	if err != nil && inner.Context().Err() == nil {
		h.err = err
	}
	return err
}

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (h *sessionHandler) ConsumeClaim(inner sarama.ConsumerGroupSession, innerClaim sarama.ConsumerGroupClaim) error {
	below, ok := innerClaim.(Claim)
	if !ok {
		err := fmt.Errorf("topic %s partition %d: a %T has no batches of records", innerClaim.Topic(), innerClaim.Partition(), innerClaim)
		h.fail(err)
		return err
	}
	c := newClaim(h.group, inner, below)
	if err := h.knows(innerClaim); err != nil {
		return err
	}
	c.before = h.finishedBefore(innerClaim)
	if err := h.begin(c); err != nil {
		return err
	}
	begun := c.changed
	h.group.register(c)
	if begun {
		h.group.options.Transactions.Stir()
	}
	h.session.mu.Lock()
	h.session.claims[topicPartition{c.Topic(), c.Partition()}] = c
	h.session.mu.Unlock()

	handlerGone := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { c.pump(handlerGone) })
	if h.group.options.Committed != nil && h.group.options.Transactions == nil {
		running.Go(func() { c.noteProgress(handlerGone) })
	}
	var err error
	if most := h.group.options.Partitions; most > 0 && c.Partition() >= most {
		if err = h.group.passOn(c); err != nil {
			h.fail(err)
		}
	} else {
		err = h.next.ConsumeClaim(h.session, c)
	}
	close(handlerGone)
	running.Wait()
	return err
}

// fail makes an error that of Consume.
func (h *sessionHandler) fail(err error) {
	h.session.mu.Lock()
	defer h.session.mu.Unlock()
	if h.err == nil {
		h.err = err
	}
}

// knows fails where it is not known what was finished of a claim before, and must be. The error ends the session, and the next one asks again.
func (h *sessionHandler) knows(c sarama.ConsumerGroupClaim) error {
	if h.group.options.Transactions == nil || h.commits == nil {
		return nil
	}
	block := h.commits.GetBlock(c.Topic(), c.Partition())
	switch {
	case block == nil:
		return fmt.Errorf("topic %s partition %d: the answer about committed offsets does not have it", c.Topic(), c.Partition())
	case block.Err != sarama.ErrNoError:
		return fmt.Errorf("topic %s partition %d: what was finished before is not known: %w", c.Topic(), c.Partition(), block.Err)
	case c.InitialOffset() >= 0 && c.InitialOffset() != block.Offset:
		return fmt.Errorf("topic %s partition %d: it begins at offset %d, but %d is committed by now", c.Topic(), c.Partition(), c.InitialOffset(), block.Offset)
	}
	return nil
}

// finishedBefore are the records of a claim that need no handling: all that they caused was acknowledged in an earlier
// session, here or elsewhere, and only an earlier record kept their offsets back. Empty runs are records that rest.
func (h *sessionHandler) finishedBefore(c sarama.ConsumerGroupClaim) []run {
	if h.commits == nil {
		return nil
	}
	block := h.commits.GetBlock(c.Topic(), c.Partition())
	// An offset that was reset, or is no longer in the log, has nothing to do with that text.
	if block == nil || block.Err != sarama.ErrNoError || block.Offset != c.InitialOffset() {
		return nil
	}
	runs, err := decodeProgress(block.Metadata)
	if err != nil {
		h.group.options.Log.Warn("the metadata of a committed offset cannot be read: what is finished behind it is handled again",
			"topic", c.Topic(), "partition", c.Partition(), "offset", block.Offset, "metadata", block.Metadata, "error", err)
		return nil
	}
	return runs
}

// Cleanup implements sarama.ConsumerGroupHandler. All claims have returned.
func (h *sessionHandler) Cleanup(inner sarama.ConsumerGroupSession) error {
	h.session.cancel()
	var err error
	if h.setUp {
		err = h.next.Cleanup(h.session)
	}
	if err != nil && h.err == nil {
		h.err = err
	}
	h.settleTransactions()
	// Only now can no handle of this session be decoded any more.
	h.session.mu.Lock()
	defer h.session.mu.Unlock()
	for _, c := range h.session.claims {
		// The last ones: they are committed after this, and then no more.
		if h.group.options.Transactions == nil {
			c.commit(c.last())
			if h.group.options.Committed != nil {
				c.commitProgress()
			}
		}
		h.group.unregister(c)
	}
	h.release()
	return err
}
