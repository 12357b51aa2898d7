package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/restart"
)

// groupSession is a generation of a group, or a part of it, as a sarama.ConsumerGroupSession.
type groupSession struct {
	group      *group
	assignment *assignment
	ctx        context.Context
	cancel     context.CancelCauseFunc
	claims     map[partition]*groupClaim
	done       chan struct{} // closed when it has ended

	committing sync.Mutex // is held for a whole commit, so that none overtakes another

	mu    sync.Mutex
	marks map[partition]mark // what is to be committed, and what was
	dirty map[partition]struct{}
}

// mark is how far a partition is finished.
type mark struct {
	offset   int64
	metadata string
}

func newGroupSession(ctx context.Context, g *group, a *assignment) *groupSession {
	s := &groupSession{
		group: g, assignment: a, done: make(chan struct{}),
		claims: map[partition]*groupClaim{}, marks: map[partition]mark{}, dirty: map[partition]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	for topic, partitions := range a.offsets {
		for id, offset := range partitions {
			p := partition{topic, id}
			s.claims[p] = newGroupClaim(s, p, offset)
			s.marks[p] = mark{offset: offset}
		}
	}
	return s
}

// run is the whole session, as the handler sees it.
func (s *groupSession) run(handler sarama.ConsumerGroupHandler) error {
	over, end := context.WithCancel(context.WithoutCancel(s.ctx)) // what is finished while claims are drained is committed, too
	var committing, running sync.WaitGroup
	committing.Go(func() {
		for restart.Pause(over, commitInterval) {
			s.Commit()
		}
	})
	err := handler.Setup(s)
	if err == nil {
		for _, c := range s.claims {
			running.Go(c.feed)
			running.Go(func() { s.consume(handler, c) })
		}
		running.Go(s.read)
		<-s.ctx.Done()
	}
	s.cancel(nil)
	running.Wait()
	if cleanup := handler.Cleanup(s); cleanup != nil {
		s.group.tell("", 0, cleanup)
		err = errors.Join(err, cleanup)
	}
	end()
	committing.Wait()
	s.settle()
	return err
}

// consume lets the handler have a claim. Its end is that of the session.
func (s *groupSession) consume(handler sarama.ConsumerGroupHandler, c *groupClaim) {
	defer s.cancel(sarama.ErrSessionConsumeClaimExited)
	defer c.end()
	if s.ctx.Err() != nil {
		return
	}
	if err := handler.ConsumeClaim(s, c); err != nil {
		s.group.tell(c.at.topic, c.at.id, err)
	}
}

// read gives the claims what is fetched.
func (s *groupSession) read() {
	for s.ctx.Err() == nil {
		fetches := s.group.client.PollFetches(s.ctx)
		for f := range fetches {
			for t := range fetches[f].Topics {
				topic := &fetches[f].Topics[t]
				for p := range topic.Partitions {
					fetched := &topic.Partitions[p]
					if c := s.claims[partition{topic.Topic, fetched.Partition}]; c != nil {
						c.take(fetched)
					} else if fetched.Err != nil && topic.Topic != "" && s.ctx.Err() == nil { // of all of it
						s.group.tell(topic.Topic, fetched.Partition, saramaError(fetched.Err))
					}
				}
			}
		}
	}
}

// Claims implements sarama.ConsumerGroupSession.
func (s *groupSession) Claims() map[string][]int32 {
	claims := map[string][]int32{}
	for p := range s.claims {
		claims[p.topic] = append(claims[p.topic], p.id)
	}
	for _, ids := range claims {
		slices.Sort(ids)
	}
	return claims
}

// MemberID implements sarama.ConsumerGroupSession.
func (s *groupSession) MemberID() string { return s.assignment.member }

// GenerationID implements sarama.ConsumerGroupSession.
func (s *groupSession) GenerationID() int32 { return s.assignment.generation }

// Context implements sarama.ConsumerGroupSession. Its cause is one of sarama's errors, or why the coordinator cannot be asked.
func (s *groupSession) Context() context.Context { return s.ctx }

// MarkMessage implements sarama.ConsumerGroupSession.
func (s *groupSession) MarkMessage(m *sarama.ConsumerMessage, metadata string) {
	s.MarkOffset(m.Topic, m.Partition, m.Offset+1, metadata)
}

// MarkOffset implements sarama.ConsumerGroupSession: an offset above the one that is marked is to be committed.
func (s *groupSession) MarkOffset(topic string, id int32, offset int64, metadata string) {
	s.mark(partition{topic, id}, mark{offset, metadata}, func(before int64) bool { return offset > before })
}

// ResetOffset implements sarama.ConsumerGroupSession: the same for one that is not above it.
func (s *groupSession) ResetOffset(topic string, id int32, offset int64, metadata string) {
	s.mark(partition{topic, id}, mark{offset, metadata}, func(before int64) bool { return offset <= before })
}

func (s *groupSession) mark(p partition, m mark, better func(than int64) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, ok := s.marks[p]; ok && better(before.offset) {
		s.marks[p] = m
		s.dirty[p] = struct{}{}
	}
}

// Commit implements sarama.ConsumerGroupSession. It takes up to 10 seconds.
func (s *groupSession) Commit() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), metadataTimeout)
	defer cancel()
	s.commit(ctx)
}

// settle commits for the last time. What is not committed then is delivered again.
func (s *groupSession) settle() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), metadataTimeout)
	defer cancel()
	for s.commit(ctx) && restart.Pause(ctx, metadataBackoff) {
	}
}

// commit commits what is marked, and reports whether it is worth another try.
func (s *groupSession) commit(ctx context.Context) (again bool) {
	s.committing.Lock()
	defer s.committing.Unlock()
	s.mu.Lock()
	sent := make(map[partition]mark, len(s.dirty))
	for p := range s.dirty {
		sent[p] = s.marks[p]
	}
	s.mu.Unlock()
	if len(sent) == 0 {
		return false
	}
	response, err := s.commitRequest(sent).RequestWith(ctx, s.group.client)
	if err != nil {
		s.group.tell("", 0, err)
		return true
	}
	for _, t := range response.Topics {
		for _, r := range t.Partitions {
			p := partition{t.Topic, r.Partition}
			if err := kerr.TypedErrorForCode(r.ErrorCode); err != nil {
				again = again || err.Retriable
				s.group.tell(p.topic, p.id, saramaError(err))
				if err == kerr.FencedInstanceID {
					s.cancel(sarama.ErrFencedInstancedId)
				}
				continue
			}
			s.mu.Lock()
			if s.marks[p] == sent[p] {
				delete(s.dirty, p)
			}
			s.mu.Unlock()
		}
	}
	return again
}

// commitRequest is one in the name of the member in its generation: the group refuses it when it has another one.
func (s *groupSession) commitRequest(marks map[partition]mark) *kmsg.OffsetCommitRequest {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Group = s.group.member.Group
	if instance := s.group.member.Instance; instance != "" {
		r.InstanceID = &instance
	}
	r.MemberID, r.Generation = s.assignment.member, s.assignment.generation
	topics := map[string][]kmsg.OffsetCommitRequestTopicPartition{}
	for p, m := range marks {
		commit := kmsg.NewOffsetCommitRequestTopicPartition()
		commit.Partition, commit.Offset, commit.Metadata = p.id, m.offset, &m.metadata
		topics[p.topic] = append(topics[p.topic], commit)
	}
	for topic, partitions := range topics {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.Partitions = topic, partitions
		r.Topics = append(r.Topics, t)
	}
	return r
}
