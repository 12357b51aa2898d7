package grpcin_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// shelf is a Fetcher that gives what it holds, then what is put on it, to each that reads.
type shelf struct {
	fail error // of the beginning
	cut  error // with which reading ends

	mu      sync.Mutex
	records []wire.Record
	changed chan struct{}
	asked   []grpcin.Fetched
	reading int
	given   int
}

func newShelf(records ...wire.Record) *shelf {
	return &shelf{records: records, changed: make(chan struct{})}
}

func (s *shelf) put(records ...wire.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, records...)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shelf) Fetch(ctx context.Context, f grpcin.Fetched, begun func() error, each func(wire.Record) error) error {
	s.mu.Lock()
	s.asked = append(s.asked, grpcin.Fetched{Topic: f.Topic, Next: maps.Clone(f.Next), Group: f.Group})
	s.reading++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.reading--
		s.mu.Unlock()
	}()
	if s.fail != nil {
		return s.fail
	}
	if err := begun(); err != nil {
		return err
	}
	for n := 0; ; {
		s.mu.Lock()
		records, changed := s.records[n:], s.changed
		n = len(s.records)
		s.mu.Unlock()
		for _, r := range records {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := each(r); err != nil {
				return err
			}
			s.mu.Lock()
			s.given++
			s.mu.Unlock()
		}
		if s.cut != nil {
			return s.cut
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *shelf) count() (reading, given int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reading, s.given
}

// startFetch is a server whose service reads the topic messages.
func startFetch(t testing.TB, s *shelf, change func(*topology.Fetch), settings ...setting) *front {
	t.Helper()
	f := &topology.Fetch{Fetching: topology.Fetching{Field: 32767, Metadata: "last-message-id", MaxFetches: 3}, Group: "ns-fetch:messages:"}
	if change != nil {
		change(f)
	}
	return start(t, append([]setting{func(o *grpcin.Options, _ *front) {
		o.Fetchers = map[string]grpcin.Fetcher{"kafka_client": s}
		route := topology.NorthRoute{Binding: "fetch", Methods: []topology.MethodPattern{service + "/*"}, Cluster: &topology.Cluster{Binding: "kafka_client"}, Topic: "messages", Fetch: f}
		o.Listener.Routes = append([]topology.NorthRoute{route}, o.Listener.Routes...)
	}}, settings...)...)
}

func at(partition int32, offset int64, key, value string, headers ...string) wire.Record {
	r := wire.Record{Topic: "messages", Partition: partition, Offset: offset, Key: []byte(key), Value: []byte(value)}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, wire.Header{Name: headers[i], Value: []byte(headers[i+1])})
	}
	return r
}

// placed is a message with the position behind it.
func placed(value string, next map[int32]int64) string {
	return string(wire.AppendMessageID([]byte(value), 32767, wire.EncodeProgress(next)))
}

func TestFetchGivesMessagesWithTheirPositions(t *testing.T) {
	t.Parallel()
	null := at(0, 7, "k", "")
	null.Value = nil
	s := newShelf(at(0, 5, "k", "a"), at(1, 0, "k", ""), null)
	f := startFetch(t, s, nil)
	ctx := withPatience(t)
	for _, method := range []string{serverStream, unknown} {
		c := f.stream(ctx, t, method)
		// Before there is a message of the caller, or one to give.
		if _, err := c.Header(); err != nil {
			t.Fatal(err)
		}
		c.send("whatever")
		c.half()
		for _, want := range []string{placed("a", map[int32]int64{0: 6}), placed("", map[int32]int64{0: 6, 1: 1})} {
			if got := c.next(); got != want {
				t.Errorf("%s: %q, want %q", method, got, want)
			}
		}
	}
	c := f.stream(ctx, t, serverStream, "last-message-id", wire.EncodeProgressText(map[int32]int64{0: 8, 2: 9}))
	c.next()
	c.next()
	// The one without a value counts as read with the next one.
	s.put(at(1, 1, "k", "b"))
	if got, want := c.next(), placed("b", map[int32]int64{0: 8, 1: 2, 2: 9}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	want := []grpcin.Fetched{{Topic: "messages"}, {Topic: "messages"}, {Topic: "messages", Next: map[int32]int64{0: 8, 2: 9}}}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("what was read (-want +got):\n%s", diff)
	}
	if n := len(f.kafka.written()); n != 0 {
		t.Errorf("%d records were written", n)
	}
}

func TestFetchFilters(t *testing.T) {
	t.Parallel()
	nameless := at(0, 9, "", "of no key")
	nameless.Key = nil
	s := newShelf(
		at(0, 0, "gold", "1"), at(0, 1, "lead", "2"), at(0, 2, "silver", "3", "region", "eu", "tier", "1"), at(0, 3, "silver", "4", "region", "eu"),
		at(0, 4, "silver", "5", "tier", "2", "tier", "1", "region", "eu"), at(0, 5, "lead", "6", "all", "1"), at(0, 6, "lead", "7", "all", "2"), nameless,
		at(0, 10, "gold", "8"),
	)
	f := startFetch(t, s, func(f *topology.Fetch) {
		f.Filters = []topology.Filter{
			{Key: []byte("gold")},
			{Key: []byte("silver"), Headers: []wire.Header{{Name: "region", Value: []byte("eu")}, {Name: "tier", Value: []byte("1")}}},
			{Headers: []wire.Header{{Name: "all", Value: []byte("1")}}},
		}
	})
	c := f.stream(withPatience(t), t, serverStream)
	for _, want := range []struct {
		value string
		next  int64
	}{{"1", 1}, {"3", 3}, {"5", 5}, {"6", 6}, {"8", 11}} {
		if got, want := c.next(), placed(want.value, map[int32]int64{0: want.next}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestFetchNamesAndNumbersOfTheFile(t *testing.T) {
	t.Parallel()
	s := newShelf(at(0, 0, "k", "a"))
	f := startFetch(t, s, func(f *topology.Fetch) { f.Field, f.Metadata = 5, "position-bin" })
	c := f.stream(withPatience(t), t, serverStream, "position-bin", string(wire.EncodeProgress(map[int32]int64{0: 0, 3: 7})), "last-message-id", "!")
	want := string(wire.AppendMessageID([]byte("a"), 5, wire.EncodeProgress(map[int32]int64{0: 1, 3: 7})))
	if got := c.next(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := s.asked[0].Next; !maps.Equal(got, map[int32]int64{0: 0, 3: 7}) {
		t.Errorf("it reads from %v", got)
	}
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	id := base64.StdEncoding.EncodeToString(wire.EncodeProgress(map[int32]int64{0: 1}))
	for _, tt := range []struct {
		name, method string
		md           []string
		code         codes.Code
		text         string
	}{
		{"no base64", serverStream, []string{"last-message-id", "*"}, codes.InvalidArgument, "metadata last-message-id: message id: it is not base64"},
		{"no position", serverStream, []string{"last-message-id", "AAAA"}, codes.InvalidArgument, "version 0"},
		{"an empty one", serverStream, []string{"last-message-id", ""}, codes.InvalidArgument, "empty"},
		{"two", serverStream, []string{"last-message-id", id, "last-message-id", id}, codes.InvalidArgument, "2 times"},
		{"a position and a group", serverStream, []string{"last-message-id", id, "fetch-group", "g"}, codes.InvalidArgument, "exclude each other"},
		{"an empty group", serverStream, []string{"fetch-group", ""}, codes.InvalidArgument, "a name of 1 to 100"},
		{"a long group", serverStream, []string{"fetch-group", strings.Repeat("g", 101)}, codes.InvalidArgument, "a name of 1 to 100"},
		{"a group of another binding", serverStream, []string{"fetch-group", "../x:y"}, codes.InvalidArgument, "a name of 1 to 100"},
		{"two groups", serverStream, []string{"fetch-group", "a", "fetch-group", "b"}, codes.InvalidArgument, "2 times"},
		{"one answer", unary, nil, codes.Unimplemented, "answers with one message"},
		{"one answer to a stream", clientStream, nil, codes.Unimplemented, "answers with one message"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newShelf()
			f := startFetch(t, s, nil)
			_, err := f.stream(withPatience(t), t, tt.method, tt.md...).rest()
			if status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("it ended with %v, want %v: %s", err, tt.code, tt.text)
			}
			if len(s.asked) > 0 {
				t.Errorf("%v was read", s.asked)
			}
		})
	}
}

func TestFetchGroup(t *testing.T) {
	t.Parallel()
	s := newShelf(at(0, 0, "k", "a"))
	f := startFetch(t, s, nil)
	f.stream(withPatience(t), t, serverStream, "fetch-group", "a_B-1.2").next()
	if got := s.asked[0]; got.Group != "ns-fetch:messages:a_B-1.2" || got.Next != nil {
		t.Errorf("it reads %+v", got)
	}
}

func TestFetchEnds(t *testing.T) {
	t.Parallel()
	gone := status.Error(codes.NotFound, "the topic is gone")
	s := newShelf(at(0, 0, "k", "a"))
	s.cut = gone
	_, err := startFetch(t, s, nil).stream(withPatience(t), t, serverStream).rest()
	if status.Code(err) != codes.NotFound {
		t.Errorf("the topic is gone: %v", err)
	}
	s = newShelf()
	s.fail = gone
	if _, err := startFetch(t, s, nil).stream(withPatience(t), t, serverStream).rest(); status.Code(err) != codes.NotFound {
		t.Errorf("the topic is not there: %v", err)
	}

	// The caller ends it, in either way, or sends what is too large.
	s = newShelf(at(0, 0, "k", "a"))
	f := startFetch(t, s, nil, func(o *grpcin.Options, _ *front) {
		o.MaxWait = time.Millisecond // which is not for those who wait for messages to come
		o.Listener.Server.MaxMessage = 10
	})
	ctx, cancel := context.WithCancel(withPatience(t))
	c := f.stream(ctx, t, serverStream)
	c.next()
	cancel()
	if _, err := c.rest(); status.Code(err) != codes.Canceled {
		t.Errorf("canceled: %v", err)
	}
	eventually(t, "nothing is read for one who is gone", func() bool { reading, _ := s.count(); return reading == 0 })
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := f.stream(ctx, t, serverStream).rest(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("at its deadline: %v", err)
	}
	eventually(t, "nothing is read behind a deadline", func() bool { reading, _ := s.count(); return reading == 0 })
	c = f.stream(withPatience(t), t, serverStream)
	c.send("more than ten")
	if _, err := c.rest(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("with a large request: %v", err)
	}
}

func TestFetchesAreBounded(t *testing.T) {
	t.Parallel()
	s := newShelf(at(0, 0, "k", "a"))
	f := startFetch(t, s, nil)
	ctx, cancel := context.WithCancel(withPatience(t))
	for range 3 {
		f.stream(ctx, t, serverStream).next()
	}
	if _, err := f.stream(withPatience(t), t, serverStream).rest(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the fourth ends with %v", err)
	}
	cancel()
	eventually(t, "there is a place again", func() bool {
		ctx, cancel := context.WithCancel(withPatience(t))
		defer cancel()
		var m []byte
		return f.stream(ctx, t, serverStream).RecvMsg(&m) == nil
	})
}

// A caller who does not read is given no more than what fits on the way.
func TestFetchAtThePaceOfTheCaller(t *testing.T) {
	t.Parallel()
	const n = 10_000
	var records []wire.Record
	large := strings.Repeat("x", 1<<10)
	for i := range int64(n) {
		records = append(records, at(0, i, "k", large))
	}
	s := newShelf(records...)
	f := startFetch(t, s, nil)
	slow := f.stream(withPatience(t), t, serverStream)
	slow.next()
	fast := f.stream(withPatience(t), t, serverStream)
	for range n {
		fast.next()
	}
	if _, given := s.count(); given >= 2*n-1 {
		t.Errorf("all %d were given, and one has not read", given)
	}
	for i := range int64(n - 1) {
		if got := slow.next(); got != placed(large, map[int32]int64{0: i + 2}) {
			t.Fatalf("message %d is another one", i+1)
		}
	}
}

// Callers go on elsewhere when the server stops: there is no end to wait for.
func TestFetchEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := newShelf(at(0, 0, "k", "a"))
	f := startFetch(t, s, nil, func(o *grpcin.Options, _ *front) { o.Drain = time.Hour })
	c := f.stream(withPatience(t), t, serverStream)
	c.next()
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.rest(); status.Code(err) != codes.Unavailable || errors.Is(err, io.EOF) {
		t.Errorf("it ended with %v", err)
	}
}

func TestFetchNeedsAFetcher(t *testing.T) {
	t.Parallel()
	route := topology.NorthRoute{Binding: "fetch", Cluster: &topology.Cluster{Binding: "k"}, Topic: "messages", Fetch: &topology.Fetch{}}
	l := topology.Listener{Routes: []topology.NorthRoute{route}}
	_, err := grpcin.NewServer(grpcin.Options{Listener: l, Calls: grpcin.NewCalls([]topology.Listener{l}, grpcin.Limits{})})
	if err == nil || !strings.Contains(err.Error(), `nothing reads the cluster of topic "messages"`) {
		t.Errorf("it is made: %v", err)
	}
}

// A topic may be its own reply topic: what a caller writes comes back.
func TestRequestsThatAreTheirOwnReplies(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, f *front) {
		o.Listener.Routes[0].ReplyTo = requests
		limit(0)(o, f)
	})
	f.kafka.on = func(r wire.Record) { f.kafka.reply(f.calls, r) }
	ctx := withPatience(t)
	if r := f.call(ctx, unary, "hi", "a", "1"); r.Status != codes.OK || r.Message != "hi" || !slices.Equal(r.Header["a"], []string{"1"}) {
		t.Errorf("unary: %+v", r)
	}
	for _, method := range []string{bidi, serverStream, unknown} {
		c := f.stream(ctx, t, method, "idempotency-key", "k")
		c.send("one")
		if method != serverStream {
			if got := c.next(); got != "one" {
				t.Errorf("%s: %q while the call is open", method, got)
			}
			c.send("", "three")
			c.half()
			c.wants(codes.OK, "", "three")
			continue
		}
		c.half()
		c.wants(codes.OK, "one")
	}
	c := f.stream(ctx, t, clientStream)
	c.send("one", "two")
	c.half()
	c.wants(codes.OK, "two") // the last one
}
