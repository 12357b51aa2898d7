package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// sessions is a handler that tells of each session, and lets each take what it wants.
type sessions struct {
	setup   func(sarama.ConsumerGroupSession) error
	consume func(sarama.ConsumerGroupSession, sarama.ConsumerGroupClaim)
	cleanup func(sarama.ConsumerGroupSession)
	begun   chan map[string][]int32
}

func newSessions() *sessions { return &sessions{begun: make(chan map[string][]int32, 100)} }

func (h *sessions) Setup(s sarama.ConsumerGroupSession) error {
	h.begun <- s.Claims()
	if h.setup != nil {
		return h.setup(s)
	}
	return nil
}

func (h *sessions) Cleanup(s sarama.ConsumerGroupSession) error {
	if h.cleanup != nil {
		h.cleanup(s)
	}
	return nil
}

func (h *sessions) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	if h.consume != nil {
		h.consume(s, c)
	} else {
		<-s.Context().Done()
	}
	return nil
}

// consume lets a member consume until stop, or the end of the test.
func consume(t *testing.T, g sarama.ConsumerGroup, h sarama.ConsumerGroupHandler, topics ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var consuming sync.WaitGroup
	consuming.Go(func() {
		for ctx.Err() == nil {
			if err := g.Consume(ctx, topics, h); err != nil && ctx.Err() == nil {
				t.Log("the member:", err)
			}
		}
	})
	consuming.Go(func() {
		for err := range g.Errors() {
			t.Log("the group:", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		if err := g.Close(); err != nil {
			t.Log("leaving:", err)
		}
		consuming.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func newGroup(t *testing.T, c kafka.Cluster, m kafka.Membership) sarama.ConsumerGroup {
	t.Helper()
	if m.Group == "" {
		m.Group = "g"
	}
	g, err := kafka.NewGroup(c, m)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// saramas is a member as those of earlier versions are.
func saramas(t *testing.T, c kafka.Cluster, m kafka.Membership) sarama.ConsumerGroup {
	t.Helper()
	config := c.ConsumerConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.InstanceId = m.Instance
	config.Consumer.Group.Heartbeat.Interval = 100 * time.Millisecond
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{m.Strategy}
	if m.Tells != "" {
		config.Consumer.Group.Member.UserData = []byte(m.Tells)
	}
	g, err := sarama.NewConsumerGroup(c.Brokers, "g", config)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Members of this version and of earlier ones, which are of sarama, share a group: whoever shares it out, each has the same partitions of all
// topics. Both say the same of themselves, and assign the same, to the byte.
func TestGroupOfBothClients(t *testing.T) {
	t.Parallel()
	type making func(*testing.T, kafka.Cluster, kafka.Membership) sarama.ConsumerGroup
	for name, members := range map[string][2]making{
		"sarama shares out":   {saramas, newGroup},
		"franz-go shares out": {newGroup, saramas},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topics := []string{"z", "a"} // not in their order
			k, c := start(t, map[string]int32{"a": 5, "z": 5})
			var mu sync.Mutex
			said, assigned := map[string][]string{}, map[string]int{}
			k.Cluster().Control(func(r kmsg.Request) (kmsg.Response, error, bool) {
				k.Cluster().KeepControl()
				mu.Lock()
				defer mu.Unlock()
				switch r := r.(type) {
				case *kmsg.JoinGroupRequest:
					for _, p := range r.Protocols {
						text := fmt.Sprintf("%s %s %q", r.ProtocolType, p.Name, p.Metadata)
						if !slices.Contains(said[*r.InstanceID], text) {
							said[*r.InstanceID] = append(said[*r.InstanceID], text)
						}
					}
				case *kmsg.SyncGroupRequest:
					for _, a := range r.GroupAssignment {
						assigned[fmt.Sprintf("%s %q", *r.Protocol, canonical(t, a.MemberAssignment))]++
					}
				}
				return nil, nil, false
			})
			var handlers [2]*sessions
			for i, make := range members {
				handlers[i] = newSessions()
				m := kafka.Membership{Instance: fmt.Sprint("i", i), Drain: time.Second, Session: 10 * time.Second, Strategy: goka.CopartitioningStrategy, Tells: "http://me"}
				consume(t, make(t, c, m), handlers[i], topics...)
				if i == 0 {
					<-handlers[0].begun // it is the first one, which shares out
				}
			}
			got := [2]map[string][]int32{<-handlers[0].begun, <-handlers[1].begun}
			var all []int32
			for i, claims := range got {
				if len(claims["a"]) == 0 || !slices.Equal(claims["a"], claims["z"]) {
					t.Errorf("member %d has %v", i, claims)
				}
				all = append(all, claims["a"]...)
			}
			slices.Sort(all)
			if !slices.Equal(all, []int32{0, 1, 2, 3, 4}) {
				t.Errorf("the members have %v", got)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(said["i0"]) != 1 || !slices.Equal(said["i0"], said["i1"]) {
				t.Errorf("the members say %q", said)
			}
			wants := []string{
				`copartition "\x00\x00 a [0 1 2 3 4] z [0 1 2 3 4] \xff\xff\xff\xff"`,
				`copartition "\x00\x00 a [0 1 2] z [0 1 2] \xff\xff\xff\xff"`, `copartition "\x00\x00 a [3 4] z [3 4] \xff\xff\xff\xff"`,
			}
			if have := slices.Sorted(maps.Keys(assigned)); !slices.Equal(have, wants) {
				t.Errorf("assigned is\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(wants, "\n"))
			}
		})
	}
}

// canonical is an assignment with its topics, which have no order, in the one of their names.
func canonical(t *testing.T, assignment []byte) string {
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(assignment); err != nil {
		t.Error(err)
	}
	slices.SortFunc(a.Topics, func(a, b kmsg.ConsumerMemberAssignmentTopic) int { return strings.Compare(a.Topic, b.Topic) })
	text := string(assignment[:2])
	for _, topic := range a.Topics {
		text += fmt.Sprintf(" %s %v", topic.Topic, topic.Partitions)
	}
	return text + " " + string(assignment[len(assignment)-4:])
}

// A member is given each record as it is, and commits with text what it marks.
func TestGroupReadsAndCommits(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	want := []wire.Record{
		{Topic: "t", Key: []byte("k"), Value: []byte("v"), Headers: []wire.Header{{Name: "a", Value: []byte("1")}, {Name: "", Value: []byte{}}, {Name: "a"}}},
		{Topic: "t"},
		{Topic: "t", Key: []byte{}, Value: []byte{}},
	}
	for range 3 * 64 { // of several slabs
		want = append(want, wire.Record{Topic: "t", Value: []byte("v"), Headers: []wire.Header{{Name: "name", Value: []byte("value")}}})
	}
	produce(t, newProducer(t, c), want...)
	got := make(chan wire.Record, len(want))
	h := newSessions()
	h.consume = func(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
		if claim.Topic() != "t" || claim.Partition() != 0 || claim.InitialOffset() != sarama.OffsetOldest {
			t.Errorf("the claim is %s/%d from %d", claim.Topic(), claim.Partition(), claim.InitialOffset())
		}
		for r := range recordsOf(claim) {
			got <- r
			if end := claim.HighWaterMarkOffset(); end != int64(len(want)) {
				t.Errorf("the end is %d", end)
			}
			s.MarkOffset("t", 0, 2, "text")
			s.MarkOffset("t", 0, 1, "below")
			s.ResetOffset("t", 0, 9, "above")
			s.MarkOffset("t", 1, 9, "not its own")
		}
	}
	stop := consume(t, newGroup(t, c, kafka.Membership{}), h, "t")
	for i, w := range want {
		r := <-got
		if int(r.Offset) != i || !bytes.Equal(r.Key, w.Key) || (r.Key == nil) != (w.Key == nil) || !bytes.Equal(r.Value, w.Value) || (r.Value == nil) != (w.Value == nil) ||
			!slices.EqualFunc(r.Headers, w.Headers, func(a, b wire.Header) bool {
				return a.Name == b.Name && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
			}) {
			t.Errorf("record %d is %+v, want %+v", i, r, w)
		}
	}
	stop()
	wantCommitted(t, c, 2, "text")
	// What is reset is committed at the end of a session, too.
	h = newSessions()
	h.setup = func(s sarama.ConsumerGroupSession) error { s.ResetOffset("t", 0, 1, ""); return nil }
	stop = consume(t, newGroup(t, c, kafka.Membership{}), h, "t")
	<-h.begun
	stop()
	wantCommitted(t, c, 1, "")
}

func wantCommitted(t *testing.T, c kafka.Cluster, offset int64, text string) {
	t.Helper()
	response, err := c.Committed("g", map[string][]int32{"t": {0}})
	if err != nil {
		t.Fatal(err)
	}
	if block := response.GetBlock("t", 0); block.Offset != offset || block.Metadata != text {
		t.Errorf("committed is %d with %q, want %d with %q", block.Offset, block.Metadata, offset, text)
	}
}

// A member that has to give up its partitions has the time to finish with them, in the set-up of a session, too: the next owner goes
// on where it ends.
func TestGroupDrains(t *testing.T) {
	t.Parallel()
	for name, inSetup := range map[string]bool{"while it consumes": false, "while it is set up": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c := start(t, map[string]int32{"t": 1})
			produce(t, newProducer(t, c), wire.Record{Topic: "t"}, wire.Record{Topic: "t"})
			first, drained := newSessions(), make(chan struct{})
			giveUp := func(s sarama.ConsumerGroupSession) {
				<-s.Context().Done()
				if cause := context.Cause(s.Context()); !errors.Is(cause, sarama.ErrRebalanceInProgress) {
					t.Errorf("the session ends with %v", cause)
				}
				<-drained
				s.MarkOffset("t", 0, 1, "")
			}
			once := true
			if inSetup {
				first.setup = func(s sarama.ConsumerGroupSession) error {
					if len(s.Claims()) > 0 && once {
						once = false
						giveUp(s)
					}
					return nil
				}
			} else {
				first.consume = func(s sarama.ConsumerGroupSession, _ sarama.ConsumerGroupClaim) {
					if once {
						once = false
						giveUp(s)
					}
					<-s.Context().Done()
				}
			}
			// The one with the lower name has the only partition; the other one has none, and is a member nevertheless.
			m := kafka.Membership{Drain: 30 * time.Second, Session: 6 * time.Second}
			m.Instance = "b"
			consume(t, newGroup(t, c, m), first, "t")
			<-first.begun
			second := newSessions()
			from := make(chan int64, 10)
			second.consume = func(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
				from <- claim.InitialOffset()
				<-s.Context().Done()
			}
			m.Instance = "a"
			stop := consume(t, newGroup(t, c, m), second, "t")
			select {
			case <-second.begun:
				t.Error("the other member did not wait")
			case drained <- struct{}{}:
			}
			claims := <-second.begun
			if len(claims["t"]) == 1 {
				if at := <-from; at != 1 {
					t.Errorf("it goes on at %d", at)
				}
			} else if claims = <-first.begun; len(claims["t"]) != 1 {
				t.Errorf("nobody has the partition: %v", claims)
			}
			stop()
		})
	}
}

// What ended a session is told, by which those who read it know whether somebody else may own its partitions.
func TestGroupLosesItsPartitions(t *testing.T) {
	t.Parallel()
	for _, why := range []sarama.KError{sarama.ErrUnknownMemberId, sarama.ErrIllegalGeneration, sarama.ErrFencedInstancedId} {
		t.Run(why.Error(), func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": 1})
			ended := make(chan error, 10)
			h := newSessions()
			h.cleanup = func(s sarama.ConsumerGroupSession) { ended <- context.Cause(s.Context()) }
			consume(t, newGroup(t, c, kafka.Membership{Instance: "i", Session: 6 * time.Second}), h, "t")
			<-h.begun
			k.Cluster().ControlKey(int16(kmsg.Heartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
				response := r.ResponseKind().(*kmsg.HeartbeatResponse)
				response.ErrorCode = int16(why)
				return response, nil, true
			})
			if got := <-ended; !errors.Is(got, why) {
				t.Errorf("the session ended with %v", got)
			}
			<-h.begun // and it comes back
		})
	}
}

// A claim that is not read is not fetched for, and holds up no other one of its broker.
func TestGroupReadsAheadALittle(t *testing.T) {
	t.Parallel()
	const records, size = 400, 100 << 10
	k, c := start(t, map[string]int32{"t": 2})
	p := newProducer(t, c)
	var all []wire.Record
	for range records {
		all = append(all, wire.Record{Topic: "t", Partition: 0, Value: make([]byte, size)})
	}
	pinned(t, p, all...)
	var fetched atomic.Int64
	k.Cluster().ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().KeepControl()
		for _, topic := range r.(*kmsg.FetchRequest).Topics {
			for _, p := range topic.Partitions {
				if p.Partition == 0 && p.FetchOffset > fetched.Load() {
					fetched.Store(p.FetchOffset)
				}
			}
		}
		return nil, nil, false
	})
	open, other, slow := make(chan struct{}), make(chan int64), make(chan int64)
	h := newSessions()
	h.consume = func(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
		to := other
		if claim.Partition() == 0 {
			to = slow
			<-open
		}
		for m := range recordsOf(claim) {
			to <- m.Offset
		}
	}
	stop := consume(t, newGroup(t, c, kafka.Membership{}), h, "t")
	for i := range int64(50) {
		pinned(t, p, wire.Record{Topic: "t", Partition: 1, Value: make([]byte, size)})
		if got := <-other; got != i {
			t.Errorf("the other claim gets %d, want %d", got, i)
		}
	}
	if n := fetched.Load() * size; n > 5<<20 {
		t.Errorf("%d bytes were read ahead", n)
	}
	close(open)
	for i := range int64(records) {
		if got := <-slow; got != i {
			t.Fatalf("the claim gets %d, want %d", got, i)
		}
	}
	stop()
}

// pinned produces records to the partitions that they name.
func pinned(t *testing.T, p *kafka.Producer, records ...wire.Record) {
	t.Helper()
	var all sync.WaitGroup
	for _, r := range records {
		all.Add(1)
		p.SendPinned(r, wire.PinTo(r.Partition), func(_ int64, err error) {
			defer all.Done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Where the next offset is not in the log, a claim begins with the first that is, and says so. One that it goes out of the log for while it
// is read ends, and so it begins again.
func TestGroupWhoseOffsetsAreGone(t *testing.T) {
	t.Parallel()
	for name, offset := range map[string]int64{"below the log": 1, "above it": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"t": 1})
			p := newProducer(t, c)
			for range 5 {
				produce(t, p, wire.Record{Topic: "t"})
			}
			h := newSessions()
			h.setup = func(s sarama.ConsumerGroupSession) error { s.MarkOffset("t", 0, offset, ""); return nil }
			stop := consume(t, newGroup(t, c, kafka.Membership{}), h, "t")
			<-h.begun
			stop()
			wantCommitted(t, c, offset, "")
			if err := k.Cluster().DeleteRecords("t", 0, 3); err != nil {
				t.Fatal(err)
			}
			h = newSessions()
			offsets, begun := make(chan int64, 100), make(chan int64, 100)
			h.consume = func(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
				begun <- claim.InitialOffset()
				for m := range recordsOf(claim) {
					offsets <- m.Offset
				}
			}
			consume(t, newGroup(t, c, kafka.Membership{}), h, "t")
			for _, want := range []int64{3, 4} {
				if got := <-offsets; got != want {
					t.Errorf("got the record at %d, want %d", got, want)
				}
			}
			if got := <-begun; got != sarama.OffsetOldest {
				t.Errorf("the claim begins at %d", got)
			}
			// While it is read: what is fetched next is gone already.
			gone := make(chan struct{})
			k.Cluster().ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				response := r.ResponseKind().(*kmsg.FetchResponse)
				topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
				topic.Topic, partition.ErrorCode = "t", int16(sarama.ErrOffsetOutOfRange)
				topic.Partitions = append(topic.Partitions, partition)
				response.Topics = append(response.Topics, topic)
				close(gone)
				return response, nil, true
			})
			<-gone
			if got := <-begun; got != sarama.OffsetOldest {
				t.Errorf("the claim begins again at %d", got)
			}
		})
	}
}

// A partition that cannot be read is read when it can be, and one of which it is not known what is committed is not begun anywhere.
func TestGroupGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	produce(t, newProducer(t, c), wire.Record{Topic: "t"})
	var refused atomic.Int64
	k.Cluster().ControlKey(int16(kmsg.OffsetFetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		refused.Add(1)
		response := r.ResponseKind().(*kmsg.OffsetFetchResponse)
		topic, partition := kmsg.NewOffsetFetchResponseTopic(), kmsg.NewOffsetFetchResponseTopicPartition()
		topic.Topic, partition.ErrorCode = "t", int16(sarama.ErrTopicAuthorizationFailed)
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	k.Cluster().ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		refused.Add(1)
		response := r.ResponseKind().(*kmsg.FetchResponse)
		topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		topic.Topic, partition.ErrorCode = "t", int16(sarama.ErrTopicAuthorizationFailed)
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	g, h := newGroup(t, c, kafka.Membership{}), newSessions()
	got := make(chan int64, 10)
	h.consume = func(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
		for m := range recordsOf(claim) {
			got <- m.Offset
		}
	}
	var errs []error
	ctx, cancel := context.WithCancel(within(t))
	var consuming sync.WaitGroup
	consuming.Go(func() {
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{"t"}, h); ctx.Err() == nil {
				errs = append(errs, err)
			}
		}
	})
	if offset := <-got; offset != 0 || refused.Load() != 2 {
		t.Errorf("got %d after %d refusals", offset, refused.Load())
	}
	if err := <-g.Errors(); !errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		t.Errorf("told is %v", err)
	}
	cancel()
	consuming.Wait()
	if len(errs) != 1 || !errors.Is(errs[0], sarama.ErrTopicAuthorizationFailed) || !strings.Contains(errs[0].Error(), `topic "t" partition 0`) {
		t.Errorf("Consume ended with %v", errs)
	}
	if len(h.begun) != 1 {
		t.Errorf("%d sessions", len(h.begun))
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// A dynamic member leaves the group when it is closed, a static one stays for its return.
func TestGroupIsLeft(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	topics, err := kafka.OpenTopics(c)
	if err != nil {
		t.Fatal(err)
	}
	defer topics.Close()
	for instance, want := range map[string]int{"": 0, "i": 1} {
		g, h := newGroup(t, c, kafka.Membership{Group: "of " + instance, Instance: instance}), newSessions()
		stop := consume(t, g, h, "t")
		<-h.begun
		stop()
		if members, err := topics.Members("of " + instance); err != nil || len(members) != want {
			t.Errorf("members of instance %q: %v, %v", instance, members, err)
		}
		if err := g.Consume(t.Context(), []string{"t"}, h); !errors.Is(err, sarama.ErrClosedConsumerGroup) {
			t.Errorf("after its end: %v", err)
		}
	}
}

// The topics are looked for before the group is joined, as long as they may still come.
func TestGroupWithoutTopic(t *testing.T) {
	patient(t)
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	g := newGroup(t, c, kafka.Membership{})
	defer g.Close()
	if err := g.Consume(t.Context(), []string{"t", "none"}, newSessions()); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Error(err)
	}
}

// A session that was ended from here is followed by another one, with what topics have by then.
func TestGroupJoinsAgain(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	g, h := newGroup(t, c, kafka.Membership{Instance: "i"}), newSessions()
	defer g.Close()
	for want := 1; want < 4; want++ {
		ctx, cancel := context.WithCancel(within(t))
		var consuming sync.WaitGroup
		consuming.Go(func() { _ = g.Consume(ctx, []string{"t"}, h) })
		if claims := <-h.begun; len(claims["t"]) != want {
			t.Errorf("the claims are %v, want %d partitions", claims, want)
		}
		if added, err := kadm.NewClient(client).CreatePartitions(within(t), 1, "t"); err != nil || added.Error() != nil {
			t.Fatal(err, added.Error())
		}
		cancel()
		consuming.Wait()
	}
}

// So is one that was not there yet: what is on its way was shared out before.
func TestGroupJoinsAgainBeforeItHasJoined(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	sharing, share := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(sharing) })
	k.Cluster().ControlKey(int16(kmsg.SyncGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().SleepControl(func() {
			first()
			<-share
		})
		return nil, nil, false
	})
	g, h := newGroup(t, c, kafka.Membership{}), newSessions()
	defer g.Close()
	ctx, cancel := context.WithCancel(within(t))
	var consuming sync.WaitGroup
	consuming.Go(func() {
		if err := g.Consume(ctx, []string{"t"}, h); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	<-sharing
	if added, err := kadm.NewClient(client).CreatePartitions(within(t), 1, "t"); err != nil || added.Error() != nil {
		t.Fatal(err, added.Error())
	}
	cancel()
	consuming.Wait()
	close(share)
	ctx, cancel = context.WithCancel(within(t))
	consuming.Go(func() { _ = g.Consume(ctx, []string{"t"}, h) })
	if claims := <-h.begun; len(claims["t"]) != 2 {
		t.Errorf("the claims are %v", claims)
	}
	cancel()
	consuming.Wait()
}

// A claim can be paused from outside.
func TestGroupIsPaused(t *testing.T) {
	t.Parallel()
	_, c := start(t, map[string]int32{"t": 1})
	g, h := newGroup(t, c, kafka.Membership{}), newSessions()
	got := make(chan int64, 100)
	h.consume = func(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
		for m := range recordsOf(claim) {
			got <- m.Offset
		}
	}
	consume(t, g, h, "t")
	p := newProducer(t, c)
	produce(t, p, wire.Record{Topic: "t"})
	<-got
	for range 2 {
		g.Pause(map[string][]int32{"t": {0}})
		produce(t, p, wire.Record{Topic: "t"})
		g.Resume(map[string][]int32{"t": {0}, "none": {1}})
		<-got
		g.PauseAll()
		produce(t, p, wire.Record{Topic: "t"})
		select {
		case <-got:
			t.Error("a record came while all is paused")
		default:
		}
		g.ResumeAll()
		<-got
	}
}

// recordsOf are the records of a claim, one by one.
func recordsOf(claim sarama.ConsumerGroupClaim) iter.Seq[wire.Record] {
	return func(yield func(wire.Record) bool) {
		for batch := range claim.(interface{ Records() <-chan []wire.Record }).Records() {
			for _, r := range batch {
				if !yield(r) {
					return
				}
			}
		}
	}
}
