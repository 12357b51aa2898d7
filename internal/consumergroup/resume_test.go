package consumergroup_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"pgregory.net/rapid"

	"kafkagrpc/internal/consumergroup"
)

// memory is what the broker keeps of commits between sessions.
type memory struct{ response *sarama.OffsetFetchResponse }

func (m *memory) options() consumergroup.Options {
	return consumergroup.Options{Committed: func(map[string][]int32) (*sarama.OffsetFetchResponse, error) {
		if m.response == nil {
			return nil, errTest
		}
		return m.response, nil
	}}
}

// keep remembers a commit of the partition of the tests.
func (m *memory) keep(offset int64, metadata string) {
	m.response = &sarama.OffsetFetchResponse{}
	m.response.AddBlock(requests.topic, requests.id, &sarama.OffsetFetchResponseBlock{Offset: offset, Metadata: metadata})
}

// crash ends a session without a drain, and remembers what was committed until then.
func (m *memory) crash(s *session) (offset int64, metadata string) {
	<-time.After(time.Second) // the next renewal of the metadata
	s.mu.Lock()
	if commits := s.commits[requests]; len(commits) > 0 {
		m.keep(slices.Max(commits), s.metadata[requests])
	}
	s.mu.Unlock()
	s.end(sarama.ErrUnknownMemberId)
	<-s.released
	if m.response == nil {
		return 0, ""
	}
	block := m.response.GetBlock(requests.topic, requests.id)
	return block.Offset, block.Metadata
}

// resume begins a session at a committed offset, with a log that ends before end.
func (r *rig) resume(from, end int64) *session {
	s := r.broker.assignFrom(from, requests)
	for offset := from; offset < end; offset++ {
		s.claims[requests].produce(offset)
	}
	return s
}

// got are the offsets of the records that were delivered since the last look, in order.
func (r *rig) delivered() (offsets []int64, all []*callback) {
	synctest.Wait()
	for len(r.got) > 0 {
		c := r.next()
		offsets, all = append(offsets, c.Record.Offset), append(all, c)
	}
	return offsets, all
}

func TestFinishedRecordsAreNotDeliveredAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r := newRig(m.options()).consume(t)
		s := r.resume(0, 10)
		for i, c := range r.take(10) {
			if i != 0 && i != 4 && i != 9 {
				c.mark()
			}
		}
		offset, metadata := m.crash(s)
		if offset != 0 || metadata == "" {
			t.Fatalf("committed %d, %q", offset, metadata)
		}

		s = r.resume(offset, 12)
		offsets, all := r.delivered()
		if want := []int64{0, 4, 9, 10, 11}; !slices.Equal(offsets, want) {
			t.Fatalf("delivered %d, want %d", offsets, want)
		}
		all[0].mark()
		wantCommitted(t, s, 4)
		// They are still known as finished if this session ends, too.
		m.crash(s)
		r.resume(4, 12)
		if offsets, _ := r.delivered(); !slices.Equal(offsets, []int64{4, 9, 10, 11}) {
			t.Errorf("delivered %d", offsets)
		}
	})
}

func TestEverythingSkippedIsCommitted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r := newRig(m.options()).consume(t)
		s := r.resume(0, 3)
		all := r.take(3)
		all[1].mark()
		all[2].mark()
		m.crash(s)
		s = r.resume(0, 3)
		r.next().mark()
		wantCommitted(t, s, 3)
		<-time.After(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if got := s.metadata[requests]; got != "" {
			t.Errorf("metadata %q although nothing is behind the offset", got)
		}
	})
}

// What was committed must be of this very position, and readable; else everything comes again.
func TestMetadataThatDoesNotCount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		keep func(m *memory, offset int64, metadata string)
		from int64
	}{
		{"the offset was reset to an earlier one", func(m *memory, o int64, md string) { m.keep(o, md) }, 0},
		{"of another program", func(m *memory, o int64, _ string) { m.keep(o, "batch 17") }, 1},
		{"corrupt", func(m *memory, o int64, md string) { m.keep(o, strings.ToUpper(md[:15])+md[15:]) }, 1},
		{"none", func(m *memory, o int64, _ string) { m.keep(o, "") }, 1},
		{"the broker does not answer", func(m *memory, _ int64, _ string) { m.response = nil }, 1},
		{"an error of the partition", func(m *memory, o int64, md string) {
			m.keep(o, md)
			m.response.Blocks[requests.topic][requests.id].Err = sarama.ErrOffsetsLoadInProgress
		}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var m memory
				r := newRig(m.options()).consume(t)
				s := r.resume(0, 4)
				all := r.take(4)
				for _, i := range []int{0, 2, 3} {
					all[i].mark()
				}
				offset, metadata := m.crash(s)
				if offset != 1 || metadata == "" {
					t.Fatalf("committed %d, %q", offset, metadata)
				}
				test.keep(&m, offset, metadata)
				r.resume(test.from, 4)
				want := []int64{0, 1, 2, 3}[test.from:]
				if offsets, _ := r.delivered(); !slices.Equal(offsets, want) {
					t.Errorf("delivered %d, want %d", offsets, want)
				}
			})
		})
	}
}

// A part of something unfinished is not skipped, although it was finished itself.
func TestFollowersAreDeliveredAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m memory
		r := newRig(m.options()).consume(t)
		s := r.resume(0, 5)
		all := r.take(5)
		first, second := all[0].Hold(), all[1].Hold() // 2 and 3 are parts of what 1 begins
		all[1].mark()
		for _, i := range []int{2, 3} {
			all[i].Follow(second)
			all[i].mark()
		}
		all[4].mark()
		m.crash(s)
		s = r.resume(0, 5)
		offsets, all := r.delivered()
		if want := []int64{0, 1, 2, 3}; !slices.Equal(offsets, want) {
			t.Fatalf("delivered %d, want %d", offsets, want)
		}

		// Now it is finished: all of it is skipped, or none.
		second = all[1].Hold()
		all[1].mark()
		for _, i := range []int{2, 3} {
			all[i].Follow(second)
			all[i].mark()
		}
		second.Release()
		all[3].Follow(second) // too late to matter
		m.crash(s)
		r.resume(0, 5)
		if offsets, _ := r.delivered(); !slices.Equal(offsets, []int64{0}) {
			t.Errorf("delivered %d, want only the first", offsets)
		}
		first.Release()
	})
}

// Whatever is finished in whatever order, over several crashes: what was finished when the metadata was renewed is not
// delivered again, all else is, and no commit goes back.
func TestResumeAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		problem := ""
		synctest.Test(t, func(t *testing.T) {
			var m memory
			r := newRig(m.options()).consume(t)
			finished := map[int64]bool{}
			var offset, end int64
			for range rapid.IntRange(1, 4).Draw(rt, "sessions") {
				end += rapid.Int64Range(0, 60).Draw(rt, "records")
				s := r.resume(offset, end)
				offsets, all := r.delivered()
				var want []int64
				for o := offset; o < end; o++ {
					if !finished[o] {
						want = append(want, o)
					}
				}
				if !slices.Equal(offsets, want) {
					problem = fmt.Sprintf("delivered %d, want %d; finished: %d", offsets, want, slices.Sorted(maps.Keys(finished)))
					return
				}
				for i, o := range offsets {
					if rapid.Bool().Draw(rt, "finish") {
						finished[o] = true
						all[i].mark()
					}
				}
				offset, _ = m.crash(s)
				if finished[offset] && offset < end {
					problem = fmt.Sprintf("committed %d, which is finished", offset)
					return
				}
			}
			_ = r.stop()
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}
