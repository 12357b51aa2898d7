package kafka

import (
	"cmp"
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// tailIdle is how long a tail that nobody awaits still fetches, up to what is kept for it: who has called calls again.
	tailIdle = time.Second
	// tailLook is how often a tail that rests looks where the ends are. What is written meanwhile is read when somebody awaits a record.
	tailLook = 250 * time.Millisecond
)

// rest returns when somebody awaits a record. Until then nothing is fetched, as others would read for nothing all that is written; the
// tail only keeps an eye on the ends. It goes on at those that were there before: what is awaited is written later.
func (t *Tail) rest(ctx context.Context) {
	idle := time.NewTimer(tailIdle)
	defer idle.Stop()
	select {
	case <-t.awaited():
		return
	case <-ctx.Done():
		return
	case <-idle.C:
	}
	t.client.PauseFetchTopics(t.topics...)
	look := time.NewTicker(tailLook)
	defer look.Stop()
	further := map[string]map[int32]kgo.EpochOffset{}
	for !t.isAwaited() && ctx.Err() == nil {
		if ends := t.look(ctx); !t.isAwaited() { // else what is awaited may be before them
			t.pass(ends, further)
		}
		select {
		case <-t.awaited():
		case <-ctx.Done():
		case <-look.C:
		}
	}
	t.client.SetOffsets(further)
	t.client.ResumeFetchTopics(t.topics...)
}

func (t *Tail) isAwaited() bool {
	if t.awaited == nil {
		return true
	}
	select {
	case <-t.awaited():
		return true
	default:
		return false
	}
}

// look asks for the ends of the partitions, until somebody awaits a record.
func (t *Tail) look(ctx context.Context) kadm.ListedOffsets {
	if len(t.topics) == 0 {
		return nil // no topics mean all of them to kadm
	}
	asking, cancel := context.WithTimeout(ctx, tailMend)
	defer cancel()
	t.running.Go(func() {
		select {
		case <-t.awaited():
			cancel()
		case <-asking.Done():
		}
	})
	ends, err := kadm.NewClient(t.client).ListEndOffsets(asking, t.topics...)
	if err = cmp.Or(err, unlisted(ends)); err != nil && asking.Err() == nil {
		t.tell(ctx, "the ends", "error", err) // more is read in the end
	}
	return ends
}

// pass notes that the tail goes on at the ends, also where a partition has less than before.
func (t *Tail) pass(ends kadm.ListedOffsets, further map[string]map[int32]kgo.EpochOffset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, partitions := range ends {
		for id, end := range partitions {
			next, reads := t.next[partition{topic, id}]
			if end.Err != nil || !reads || end.Offset == next {
				continue
			}
			t.next[partition{topic, id}] = end.Offset
			if further[topic] == nil {
				further[topic] = map[int32]kgo.EpochOffset{}
			}
			further[topic][id] = kgo.EpochOffset{Epoch: -1, Offset: end.Offset}
		}
	}
}
