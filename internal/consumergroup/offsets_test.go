package consumergroup_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"pgregory.net/rapid"

	"kafkagrpc/internal/consumergroup"
)

// offsets is what the broker knows of the partition of the tests: not all of its offsets are records.
type offsets struct {
	mu      sync.Mutex
	err     error
	start   int64
	end     int64
	stable  int64   // a transaction is open there; the end where none is
	records []int64 // ascending; those that a claim is given
	asked   int     // for the next one
}

func (o *offsets) Start(string, int32) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.start, o.err
}

func (o *offsets) Ends(map[string][]int32) (map[string]map[int32]int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return map[string]map[int32]int64{requests.topic: {requests.id: o.end}}, o.err
}

func (o *offsets) Next(_ string, _ int32, from int64) (int64, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	for _, r := range o.records {
		if r >= from && r < o.stable {
			return r, false, o.err
		}
	}
	return max(from, o.stable), o.stable < o.end, o.err
}

// log appends offsets, of which some are records, and gives those to a claim.
func (o *offsets) log(s *session, end int64, records ...int64) {
	o.mu.Lock()
	o.end, o.stable = end, end
	o.records = append(o.records, records...)
	o.mu.Unlock()
	s.claims[requests].produce(records...)
}

const looks = 5 * time.Second // time enough for the group to look after its claims

func TestCommitsPassOffsetsOfNoRecord(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		records []int64
		end     int64
	}{
		{"none", nil, 7},
		{"the marker of a transaction", []int64{0, 1}, 3},
		{"gaps within and behind", []int64{2, 5}, 100},
		{"records only", []int64{0, 1, 2}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var o offsets
				r := newRig(consumergroup.Options{Offsets: &o}).consume(t)
				s := r.broker.assign(requests)
				o.log(s, test.end, test.records...)
				for _, c := range r.take(len(test.records)) {
					time.Sleep(looks) // while it is in flight
					wantCommitted(t, s, max(0, s.committed(requests)))
					if got := s.committed(requests); got > c.Record.Offset {
						t.Fatalf("committed %d, and %d is not finished", got, c.Record.Offset)
					}
					c.mark()
				}
				time.Sleep(looks)
				wantCommitted(t, s, test.end)
				if lag := r.Claims()[0].Lag; lag != 0 {
					t.Errorf("lag %d", lag)
				}
			})
		})
	}
}

// A question costs the broker a read, and where there is nothing to pass none is asked.
func TestNothingIsAskedWhereNothingWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var o offsets
		r := newRig(consumergroup.Options{Offsets: &o}).consume(t)
		s := r.broker.assign(requests)
		o.log(s, 2, 0, 1)
		for _, c := range r.take(2) {
			c.mark()
		}
		time.Sleep(100 * looks)
		if o.asked > 0 {
			t.Errorf("asked %d times", o.asked)
		}
	})
}

func TestOpenTransactionIsNotPassed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var o offsets
		r := newRig(consumergroup.Options{Offsets: &o}).consume(t)
		s := r.broker.assign(requests)
		o.log(s, 1, 0)
		r.next().mark()
		o.mu.Lock()
		o.end = 10 // and the transaction is open at 1
		o.mu.Unlock()
		time.Sleep(100 * looks)
		wantCommitted(t, s, 1)
		if lag := r.Claims()[0].Lag; lag != 9 {
			t.Errorf("lag %d", lag)
		}
		o.log(s, 10, 4)
		c := r.next()
		time.Sleep(looks)
		wantCommitted(t, s, 1)
		c.mark()
		time.Sleep(looks)
		wantCommitted(t, s, 10)
	})
}

// Records that a handler never got, because the session ended before their turn, are not passed while the claim is drained.
func TestRecordsThatWereTakenBackAreNotPassed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var o offsets
		r := newRig(consumergroup.Options{Offsets: &o, Drain: time.Hour})
		busy := make(chan struct{})
		r.processor.callback = func(c *callback) {
			c.later = true
			r.got <- c
			<-busy
		}
		r.consume(t)
		s := r.broker.assign(requests)
		<-s.started
		synctest.Wait()
		if !r.Inject(requests.topic, requests.id, "k", "work of its own") {
			t.Fatal("not injected")
		}
		work := r.next()
		o.log(s, 3, 0, 1)
		synctest.Wait() // both wait for their turn
		s.end(sarama.ErrRebalanceInProgress)
		synctest.Wait()
		close(busy)
		r.quiet(t)
		time.Sleep(looks)
		wantCommitted(t, s, 0)
		work.mark()
		<-s.released
		wantCommitted(t, s, 0)
	})
}

// Records are finished in any order beside gaps, and sessions end: no commit is above an unfinished record, and in the end
// everything is committed.
func TestCommitsWithGaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			var o offsets
			r := newRig(consumergroup.Options{Offsets: &o}).consume(t)
			s := r.broker.assign(requests)
			end := int64(0)
			var open []*callback
			check := func() {
				synctest.Wait()
				for _, c := range open {
					if got := s.committed(requests); got > c.Record.Offset {
						rt.Fatalf("committed %d, and %d is not finished", got, c.Record.Offset)
					}
				}
			}
			for range rapid.IntRange(1, 20).Draw(rt, "steps") {
				switch rapid.IntRange(0, 3).Draw(rt, "what") {
				case 0:
					end += rapid.Int64Range(1, 5).Draw(rt, "gap")
					o.log(s, end)
				case 1:
					end++
					o.log(s, end, end-1)
					open = append(open, r.next())
				case 2:
					if len(open) > 0 {
						i := rapid.IntRange(0, len(open)-1).Draw(rt, "finished")
						c := open[i]
						open = slices.Delete(open, i, i+1)
						c.mark()
					}
				case 3:
					time.Sleep(looks)
				}
				check()
			}
			for _, c := range open {
				c.mark()
			}
			open = nil
			time.Sleep(looks)
			synctest.Wait()
			if got := s.committed(requests); got != end {
				rt.Fatalf("committed %d of %d", got, end)
			}
			if err := r.stop(); err != nil {
				rt.Fatal(err)
			}
		})
	})
}

// Where a claim begins at no committed offset, that is committed at once, and what is gone is told.
func TestClaimsThatBeginAtNoCommittedOffset(t *testing.T) {
	t.Parallel()
	progress := func(t *testing.T) string { // 3 and 4 were finished, and 2 was not
		var m memory
		o := m.options()
		r := newRig(o).consume(t)
		s := r.resume(2, 5)
		for _, c := range r.take(3)[1:] {
			c.mark()
		}
		_, metadata := m.crash(s)
		return metadata
	}
	for _, test := range []struct {
		name      string
		committed int64
		metadata  func(*testing.T) string
		want      []consumergroup.Gap
	}{
		{name: "a new group", committed: -1},
		{name: "retention was faster", committed: 2, want: []consumergroup.Gap{{Topic: requests.topic, From: 2, To: 10, Unread: 8}}},
		{name: "but for what was finished", committed: 2, metadata: progress, want: []consumergroup.Gap{{Topic: requests.topic, From: 2, To: 10, Unread: 6}}},
		{name: "another log", committed: 50, want: []consumergroup.Gap{{Topic: requests.topic, From: 50, To: 10, Other: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var m memory
				metadata := ""
				if test.metadata != nil {
					metadata = test.metadata(t)
				}
				m.keep(test.committed, metadata)
				options := m.options()
				o := offsets{start: 10, end: 10, stable: 10}
				var told []consumergroup.Gap
				options.Offsets, options.Gone = &o, func(g consumergroup.Gap) { told = append(told, g) }
				r := newRig(options).consume(t)
				s := r.broker.assignFrom(sarama.OffsetOldest, requests)
				if test.committed >= 0 {
					s.MarkOffset(requests.topic, requests.id, test.committed, metadata) // as sarama has it
				}
				wantCommitted(t, s, 10)
				if !slices.Equal(told, test.want) {
					t.Errorf("told %+v, want %+v", told, test.want)
				}
				if lag := r.Claims()[0].Lag; lag != 0 {
					t.Errorf("lag %d", lag)
				}
				o.log(s, 11, 10)
				r.next().mark()
				wantCommitted(t, s, 11)
			})
		})
	}
}

// A session that cannot find out where a claim begins ends, and so does one whose offset is in the log after all: another one is
// tried, which sarama begins where it should.
func TestSessionEndsWhereItCannotBegin(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*offsets{
		"no answer":                {err: errTest},
		"in the log after all":     {start: 10, end: 60, stable: 60},
		"in the log, at its end":   {start: 10, end: 50, stable: 50},
		"no answer about the ends": {start: 10, end: 20, err: errTest},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var m memory
				m.keep(50, "")
				options := m.options()
				options.Offsets, options.Gone = o, func(g consumergroup.Gap) { t.Errorf("told %+v", g) }
				r := newRig(options).consume(t)
				s := r.broker.assignFrom(sarama.OffsetOldest, requests)
				<-s.released
				if got := s.committed(requests); got != 0 {
					t.Errorf("committed %d", got)
				}
				<-r.broker.joining
				<-r.broker.joining
			})
		})
	}
}
