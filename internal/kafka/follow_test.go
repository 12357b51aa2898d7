package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/logtest"
	"kafkagrpc/wire"
)

// follower follows a topic on a goroutine of its own.
type follower struct {
	*inbox
	begun chan struct{}
	stop  context.CancelFunc
	ended chan error // has room for the end
}

func follow(t *testing.T, f *kafka.Followers, what kafka.Followed) *follower {
	t.Helper()
	in := &follower{inbox: newInbox(), begun: make(chan struct{}), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(within(t))
	in.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.ended <- f.Follow(ctx, what, func() error { close(in.begun); return nil }, func(r wire.Record) error { in.deliver(r); return nil })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return in
}

// end stops following and answers what came.
func (f *follower) end(t *testing.T) []wire.Record {
	t.Helper()
	f.stop()
	if err := <-f.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records
}

func TestFollowReadsOnWhereItIsTold(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 2})
	writer := client(t, k)
	put(t, writer, 0, "a0", "a1", "a2")
	put(t, writer, 1, "b0", "b1")
	fs := kafka.NewFollowers(c, testLog(t))
	all := follow(t, fs, kafka.Followed{Topic: "t"})
	rest := follow(t, fs, kafka.Followed{Topic: "t", Next: map[int32]int64{0: 2, 1: 2}})
	some := follow(t, fs, kafka.Followed{Topic: "t", Next: map[int32]int64{1: 1}})
	for _, f := range []*follower{all, some} {
		for _, v := range []string{"a0", "a1", "a2", "b1"} {
			f.wait(t, v)
		}
	}
	// What is written while it is open comes, in partitions that are added, too.
	put(t, writer, 1, "b2")
	added, err := kadm.NewClient(writer).CreatePartitions(within(t), 1, "t")
	if err != nil || added.Error() != nil {
		t.Fatal(err, added.Error())
	}
	put(t, client(t, k), 2, "c0")
	for _, f := range []*follower{all, rest, some} {
		f.wait(t, "b2")
		f.wait(t, "c0")
	}
	for f, want := range map[*follower]string{all: "a0 a1 a2 b0 b1 b2 c0", rest: "a2 b2 c0", some: "a0 a1 a2 b1 b2 c0"} {
		f.end(t)
		got := f.values()
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("it read %q, want %q", got, want)
		}
	}
}

func TestFollowFromAPositionThatIsGone(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	writer := client(t, k)
	put(t, writer, 0, "0", "1", "2", "3")
	deleted, err := kadm.NewClient(writer).DeleteRecords(within(t), kadm.Offsets{"t": {0: {Topic: "t", Partition: 0, At: 2}}})
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	for name, next := range map[string]int64{"deleted": 1, "of a topic that had more": 1000} {
		log := &logtest.Lines{}
		f := follow(t, kafka.NewFollowers(c, slog.New(slog.NewJSONHandler(log, nil))), kafka.Followed{Topic: "t", Next: map[int32]int64{0: next}})
		f.wait(t, "3")
		f.end(t)
		if got := f.values(); !slices.Equal(got, []string{"2", "3"}) {
			t.Errorf("%s: it read %q", name, got)
		}
		if n := log.Count("the offset to read next is gone"); n != 1 {
			t.Errorf("%s: the log says so %d times: %s", name, n, log)
		}
	}
	// Where the records were deleted that nobody asked for, there is nothing to say.
	log := &logtest.Lines{}
	f := follow(t, kafka.NewFollowers(c, slog.New(slog.NewJSONHandler(log, nil))), kafka.Followed{Topic: "t"})
	f.wait(t, "3")
	f.end(t)
	if log.Count("gone") > 0 {
		t.Errorf("the log says %s", log)
	}
}

func TestFollowWhatIsNotThere(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 2, "passing": 1})
	fs := kafka.NewFollowers(c, testLog(t))
	if err := <-follow(t, fs, kafka.Followed{Topic: "t", Next: map[int32]int64{2: 1}}).ended; !errors.Is(err, kafka.ErrNoPartition) {
		t.Errorf("a partition that there is not: %v", err)
	}
	if err := <-follow(t, fs, kafka.Followed{Topic: "none"}).ended; !kafka.Gone(err) {
		t.Errorf("a topic that there is not: %v", err)
	}
	writer := client(t, k)
	put1 := kadm.NewClient(writer)
	for _, group := range []string{"", "g"} {
		f := follow(t, fs, kafka.Followed{Topic: "passing", Group: group})
		<-f.begun
		deleted, err := put1.DeleteTopics(within(t), "passing")
		if err != nil || deleted.Error() != nil {
			t.Fatal(err, deleted.Error())
		}
		if err := <-f.ended; !kafka.Gone(err) {
			t.Errorf("a topic that is deleted (group %q): %v", group, err)
		}
		if err := k.Cluster().CreateTopic("passing", 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	k.Close()
	if err := <-follow(t, fs, kafka.Followed{Topic: "t"}).ended; err == nil || kafka.Gone(err) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a Kafka: %v", err)
	}
}

func TestFollowEndsWithWhatItIsToldFor(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	put(t, client(t, k), 0, "0", "1", "2")
	boom := errors.New("boom")
	fs := kafka.NewFollowers(c, testLog(t))
	never := func(wire.Record) error { t.Error("a record was given"); return nil }
	if err := fs.Follow(within(t), kafka.Followed{Topic: "t"}, func() error { return boom }, never); !errors.Is(err, boom) {
		t.Errorf("its beginning failed: %v", err)
	}
	for _, group := range []string{"", "g"} {
		n := 0
		err := fs.Follow(within(t), kafka.Followed{Topic: "t", Group: group}, func() error { return nil }, func(wire.Record) error {
			n++
			if n == 2 {
				return boom
			}
			return nil
		})
		if !errors.Is(err, boom) || n != 2 {
			t.Errorf("group %q: %v after %d records", group, err, n)
		}
	}
}

// committed is what a group has done of topic t.
func committed(t *testing.T, admin *kadm.Client, group string) map[int32]int64 {
	t.Helper()
	offsets, err := admin.FetchOffsets(within(t), group)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int32]int64{}
	for id, o := range offsets["t"] {
		all[id] = o.At
	}
	return all
}

func members(t *testing.T, admin *kadm.Client, group string) int {
	t.Helper()
	groups, err := admin.DescribeGroups(within(t), group)
	if err != nil {
		t.Fatal(err)
	}
	return len(groups[group].Members)
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for ctx := within(t); !holds(); {
		if ctx.Err() != nil {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestFollowersShareATopic(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 4})
	writer := client(t, k)
	admin := kadm.NewClient(writer)
	fs := kafka.NewFollowers(c, testLog(t))
	want := map[string]bool{}
	write := func(from, to int) {
		for i := from; i < to; i++ {
			want[fmt.Sprint(i)] = true
			put(t, writer, int32(i%4), fmt.Sprint(i))
		}
	}
	write(0, 100)
	what := kafka.Followed{Topic: "t", Group: "g"}
	first := follow(t, fs, what)
	until(t, "the first has all", func() bool { return len(first.values()) >= 100 })
	// Everything is committed soon after it was given.
	until(t, "all is committed", func() bool {
		return maps.Equal(committed(t, admin, "g"), map[int32]int64{0: 25, 1: 25, 2: 25, 3: 25})
	})
	second := follow(t, fs, what)
	until(t, "both are members", func() bool { return members(t, admin, "g") == 2 })
	i := 100
	until(t, "both are given something", func() bool {
		write(i, i+4)
		i += 4
		return len(second.values()) > 0
	})
	if n := len(second.values()); n >= i {
		t.Errorf("the second was given all %d", n)
	}
	// One that ends leaves at once; what it was given just before comes again.
	first.end(t)
	if n := members(t, admin, "g"); n != 1 {
		t.Errorf("%d members are left", n)
	}
	write(i, i+100)
	seen := map[string]bool{}
	until(t, "all is read", func() bool {
		for _, v := range append(first.values(), second.values()...) {
			seen[v] = true
		}
		return len(seen) == len(want)
	})
	// Nothing was given many times: what is committed is not given again.
	if n := len(first.values()) + len(second.values()); n > 2*len(want) {
		t.Errorf("%d records were given, and there are %d", n, len(want))
	}
	second.end(t)
}

// What was given just before the end counts as not read.
func TestFollowersAtLeastOnce(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	put(t, client(t, k), 0, "0", "1", "2")
	fs := kafka.NewFollowers(c, testLog(t))
	boom := errors.New("boom")
	for range 3 {
		var got []string
		err := fs.Follow(within(t), kafka.Followed{Topic: "t", Group: "g"}, func() error { return nil }, func(r wire.Record) error {
			if got = append(got, string(r.Value)); len(got) == 3 {
				return boom
			}
			return nil
		})
		if !errors.Is(err, boom) || !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// A group that was away for longer than records are kept goes on with the oldest that are there.
func TestFollowersWhoseOffsetIsGone(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	writer := client(t, k)
	put(t, writer, 0, "0", "1", "2", "3")
	admin := kadm.NewClient(writer)
	if err := admin.CommitAllOffsets(within(t), "g", kadm.Offsets{"t": {0: {Topic: "t", Partition: 0, At: 1}}}); err != nil {
		t.Fatal(err)
	}
	deleted, err := admin.DeleteRecords(within(t), kadm.Offsets{"t": {0: {Topic: "t", Partition: 0, At: 2}}})
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	log := &logtest.Lines{}
	f := follow(t, kafka.NewFollowers(c, slog.New(slog.NewJSONHandler(log, nil))), kafka.Followed{Topic: "t", Group: "g"})
	f.wait(t, "3")
	f.end(t)
	if got := f.values(); !slices.Equal(got, []string{"2", "3"}) || log.Count("is gone") != 1 {
		t.Errorf("it read %q, and the log says %s", got, log)
	}
}

// What is not allowed is no reason to wait.
func TestFollowersWhoAreNotAllowedTo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		group string
		asked kmsg.Key
		code  *kerr.Error
	}{{"", kmsg.Fetch, kerr.TopicAuthorizationFailed}, {"g", kmsg.JoinGroup, kerr.GroupAuthorizationFailed}} {
		k, c := start(t, map[string]int32{"t": 1})
		k.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{tt.asked}, Err: tt.code, Count: -1})
		err := <-follow(t, kafka.NewFollowers(c, testLog(t)), kafka.Followed{Topic: "t", Group: tt.group}).ended
		if !errors.Is(err, tt.code) {
			t.Errorf("group %q: it ended with %v", tt.group, err)
		}
	}
}

// What a transaction wrote is read once it is committed, and never where it is aborted, by those who share a topic, too.
func TestFollowReadsWhatIsCommitted(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	x := client(t, k, kgo.TransactionalID("x"))
	within := within(t)
	write := func(value string, how kgo.TransactionEndTry) {
		t.Helper()
		if err := x.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := x.ProduceSync(within, &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := x.EndTransaction(within, how); err != nil {
			t.Fatal(err)
		}
	}
	write("aborted", kgo.TryAbort)
	write("committed", kgo.TryCommit)
	if err := x.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := x.ProduceSync(within, &kgo.Record{Topic: "t", Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	fs := kafka.NewFollowers(c, testLog(t))
	all, shared := follow(t, fs, kafka.Followed{Topic: "t"}), follow(t, fs, kafka.Followed{Topic: "t", Group: "g"})
	all.wait(t, "committed")
	shared.wait(t, "committed")
	if err := x.EndTransaction(within, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*follower{all, shared} {
		f.wait(t, "open")
		f.end(t)
		if got := f.values(); !slices.Equal(got, []string{"committed", "open"}) {
			t.Errorf("it read %q", got)
		}
	}
}
