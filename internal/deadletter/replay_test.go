package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

func TestMain(m *testing.M) {
	// go-metrics, below sarama, starts one ticker for the whole process and has no way to stop it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const letters = "letters"

// bench is a dead-letter topic, and a request topic "requests".
type bench struct {
	t        *testing.T
	reader   *kafka.Reader
	producer *kafka.Producer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	k, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	for _, topic := range []string{letters, "requests"} {
		if err := k.Cluster().CreateTopic(topic, 1, map[string]string{"max.message.bytes": "4000000"}); err != nil {
			t.Fatal(err)
		}
	}
	cluster := kafka.Cluster{Brokers: k.Brokers()}
	reader, err := kafka.NewReader(cluster)
	if err != nil {
		t.Fatal(err)
	}
	producer, err := deadletter.NewProducer(cluster, []string{"requests", letters})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(producer.Close(), reader.Close()); err != nil {
			t.Error(err)
		}
	})
	return &bench{t, reader, producer}
}

func (b *bench) send(r wire.Record) {
	b.t.Helper()
	acknowledged := make(chan error, 1)
	b.producer.Send(r, func(_ int64, err error) { acknowledged <- err })
	if err := <-acknowledged; err != nil {
		b.t.Fatal(err)
	}
}

// letter writes one.
func (b *bench) letter(key string, change ...func(*wire.Record)) {
	b.t.Helper()
	cause := cause
	cause.Code, cause.Attempts = codes.OK, 0 // one record each; the end of a call that was made is tested with Again
	r := deadletter.New(wire.Record{Key: []byte(key), Value: []byte("v")}, cause)
	r.Topic = letters
	for _, f := range change {
		f(&r)
	}
	b.send(r)
}

func (b *bench) open() *deadletter.Topic {
	b.t.Helper()
	topic, err := deadletter.Open(b.t.Context(), b.reader, letters, time.Time{})
	if err != nil {
		b.t.Fatal(err)
	}
	return topic
}

// keys are those of the records of a topic.
func (b *bench) keys(topic string) (keys []string) {
	b.t.Helper()
	spans, err := b.reader.Spans(topic)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.reader.Read(b.t.Context(), topic, spans[0], func(r wire.Record) error { keys = append(keys, string(r.Key)); return nil }); err != nil {
		b.t.Fatal(err)
	}
	return keys
}

func (b *bench) replay(ctx context.Context, s deadletter.Sender) (deadletter.Result, string, error) {
	b.t.Helper()
	var out strings.Builder
	topic := b.open()
	r := deadletter.Replay{Topic: topic, Inputs: []string{"requests"}, Sender: s, Out: &out}
	result, err := r.Run(ctx, topic.All())
	return result, out.String(), err
}

// sender fails the nth record, or passes it on.
type sender struct {
	*kafka.Producer
	fail map[int]error
	n    int
	then func(n int)
}

func (s *sender) SendPinned(r wire.Record, pin *wire.Pin, done func(int64, error)) {
	s.n++
	if err := s.fail[s.n]; err != nil {
		done(-1, err)
		return
	}
	s.Producer.SendPinned(r, pin, done)
	if s.then != nil {
		s.then(s.n)
	}
}

func TestReplayRefusesAPartOfAStream(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.letter("part", func(r *wire.Record) {
		r.Headers = append(r.Headers, wire.Header{Name: "kafkagrpc.error.partial", Value: []byte("1")})
	})
	b.letter("whole")
	result, says, err := b.replay(t.Context(), b.producer)
	if err != nil || result != (deadletter.Result{Replayed: 1, Failed: 1}) || !strings.Contains(says, "0@0 cannot be replayed: it is the first message of a stream") {
		t.Errorf("%+v, %v, %s", result, err, says)
	}
	if got := b.keys("requests"); !slices.Equal(got, []string{"whole"}) {
		t.Errorf("requests %q", got)
	}
}

func TestReplayMarksOnlyWhatWasSent(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for _, tc := range []struct {
		name    string
		fail    map[int]error // the records sent are: a, its mark, b, its mark, c, its mark
		result  deadletter.Result
		says    string
		want    []string // requests
		replays []string // requests after a second replay
	}{
		{name: "nothing fails", result: deadletter.Result{Replayed: 3}, want: []string{"a", "b", "c"}, replays: []string{"a", "b", "c"}},
		{
			name: "a letter cannot be sent", fail: map[int]error{3: down}, result: deadletter.Result{Replayed: 1}, says: "replaying 0@1: down",
			want: []string{"a"}, replays: []string{"a", "b", "c"},
		},
		{
			name: "a letter is sent and cannot be marked", fail: map[int]error{4: down}, result: deadletter.Result{Replayed: 1},
			says: "0@1 was replayed to requests but could not be marked", want: []string{"a", "b"}, replays: []string{"a", "b", "b", "c"},
		},
		{
			name: "a letter is refused by Kafka", fail: map[int]error{3: fmt.Errorf("no: %w", kerr.MessageTooLarge)}, result: deadletter.Result{Replayed: 2, Failed: 1},
			says: "0@1 cannot be replayed: no", want: []string{"a", "c"}, replays: []string{"a", "c", "b"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for _, key := range []string{"a", "b", "c"} {
				b.letter(key)
			}
			result, out, err := b.replay(t.Context(), &sender{Producer: b.producer, fail: tc.fail})
			if result != tc.result {
				t.Errorf("result %+v", result)
			}
			if all := fmt.Sprint(out, err); !strings.Contains(all, tc.says) {
				t.Errorf("no %q in %s", tc.says, all)
			}
			if diff := cmp.Diff(tc.want, b.keys("requests")); diff != "" {
				t.Errorf("requests: %s", diff)
			}
			if _, _, err := b.replay(t.Context(), b.producer); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tc.replays, b.keys("requests")); diff != "" {
				t.Errorf("requests after a second replay: %s", diff)
			}
		})
	}
}

// A letter that was sent is marked, and no other one is begun.
func TestReplayEndsBetweenLetters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.letter("a")
	b.letter("b")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result, _, err := b.replay(ctx, &sender{Producer: b.producer, then: func(n int) {
		if n == 1 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || result.Replayed != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"a", "b", "a"}, b.keys(letters)); diff != "" {
		t.Errorf("letters and marks: %s", diff)
	}
}

// Letters that come while others are replayed wait for the next replay: a letter that fails again is no endless loop.
func TestReplayEndsWithTheLettersOfItsBeginning(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.letter("a")
	s := &sender{Producer: b.producer}
	s.then = func(n int) {
		if n == 1 {
			b.letter("again")
		}
	}
	if result, _, err := b.replay(t.Context(), s); err != nil || result.Replayed != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"a"}, b.keys("requests")); diff != "" {
		t.Error(diff)
	}
}

// A letter is as large as its request topic takes. Listed without values it takes no more memory than others.
func TestLargeLetters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	large := strings.Repeat("x", 3_000_000)
	b.letter("large", func(r *wire.Record) { r.Value = []byte(large) })
	for _, values := range []bool{true, false} {
		found, err := b.open().Newest(t.Context(), deadletter.Query{Values: values})
		if err != nil || len(found.Letters) != 1 {
			t.Fatalf("%d letters, %v", len(found.Letters), err)
		}
		if got := string(found.Letters[0].Value); values && got != large || !values && got != "" {
			t.Errorf("with values %t: a value of %d bytes", values, len(got))
		}
	}
	if result, out, err := b.replay(t.Context(), b.producer); err != nil || result.Replayed != 1 {
		t.Errorf("%+v, %v: %s", result, err, out)
	}
	if got := b.keys("requests"); !slices.Equal(got, []string{"large"}) {
		t.Errorf("replayed: %q", got)
	}
}

func TestNewestAreInTheOrderOfTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	begin := time.UnixMilli(1_700_000_000_000)
	for n, key := range []string{"c", "a", "d", "b"} {
		b.letter(key, func(r *wire.Record) { r.Timestamp = begin.Add(time.Duration([]int{3, 1, 4, 2}[n]) * time.Second) })
	}
	b.send(wire.Record{Topic: letters, Key: []byte("no letter"), Value: []byte("v")})
	for limit, want := range map[int]string{0: "abcd", 1: "d", 3: "bcd", 9: "abcd"} {
		found, err := b.open().Newest(t.Context(), deadletter.Query{Limit: limit, Values: true})
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for _, l := range found.Letters {
			got += string(l.Key)
		}
		if got != want || found.Found != 4 || found.Replayed != 0 {
			t.Errorf("limit %d: %s of %d, %d replayed; want %s", limit, got, found.Found, found.Replayed, want)
		}
	}
}

// Who is interrupted while a letter waits for its turn learns where to go on, and what was sent is marked.
func TestReplayKeepsItsPace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, key := range []string{"a", "b", "c", "other"} {
		b.letter(key)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	topic := b.open()
	var out strings.Builder
	waits := 0
	r := deadletter.Replay{
		Topic: topic, Inputs: []string{"requests"}, Sender: b.producer, Out: &out,
		Picks: func(l deadletter.Letter) bool { return string(l.Key) != "other" },
		Pace: func(ctx context.Context) error {
			if waits++; waits == 3 {
				cancel()
			}
			return ctx.Err()
		},
	}
	if n, err := r.Count(ctx, topic.All()); err != nil || n != 3 {
		t.Errorf("%d letters are counted, %v", n, err)
	}
	result, err := r.Run(ctx, topic.All())
	var stopped *deadletter.Stopped
	if !errors.As(err, &stopped) || !errors.Is(err, context.Canceled) || result != (deadletter.Result{Replayed: 2}) {
		t.Fatalf("%+v, %v", result, err)
	}
	if diff := cmp.Diff([]kafka.Span{{From: 2, To: 4}}, stopped.Left); diff != "" || err.Error() != "interrupted before 0@2" {
		t.Errorf("%v: %s", err, diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, b.keys("requests")); diff != "" {
		t.Error(diff)
	}
	r.Topic, r.Pace = b.open(), nil
	if n, err := r.Count(t.Context(), r.Topic.All()); err != nil || n != 1 {
		t.Errorf("%d letters are left, %v", n, err)
	}
	if result, err := r.Run(t.Context(), r.Topic.All()); err != nil || result != (deadletter.Result{Replayed: 1, Before: 2}) {
		t.Errorf("%+v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, b.keys("requests")); diff != "" {
		t.Error(diff)
	}
}

// The mark of an edited letter is found where that of any letter is: under the key that it came with.
func TestEditedLetterIsSentAndMarked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.letter("a")
	source := requestSource
	text := `{"about": {"letter": "0@0", "reason": "no way", "topic": "requests"}, "key": "b", "headers": [], "value-json": {"n": 12345678901234567890}}`
	var out strings.Builder
	r := deadletter.Replay{Topic: b.open(), Inputs: []string{"requests"}, Sender: b.producer, Out: &out, Named: true,
		Edit: func(_ context.Context, l deadletter.Letter) (deadletter.Letter, error) {
			draft, err := source.Draft(l, nil)
			if err != nil {
				return l, err
			}
			return draft.Read([]byte(text), now)
		}}
	if result, err := r.Run(t.Context(), r.Topic.All()); err != nil || result.Replayed != 1 || out.String() != "0@0 edited and replayed to requests\n" {
		t.Errorf("%+v, %v: %s", result, err, &out)
	}
	if diff := cmp.Diff([]string{"a", "a"}, b.keys(letters)); diff != "" {
		t.Errorf("the letter and its mark: %s", diff)
	}
	var sent []wire.Record
	spans, err := b.reader.Spans("requests")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.reader.Read(t.Context(), "requests", spans[0], func(r wire.Record) error { sent = append(sent, r); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []wire.Header{header("kafkagrpc.edited.topic", letters), header("kafkagrpc.edited.partition", "0"), header("kafkagrpc.edited.offset", "0"),
		header("kafkagrpc.edited.timestamp", fmt.Sprint(now.UnixMilli()))}
	if len(sent) != 1 || string(sent[0].Key) != "b" || string(sent[0].Value) != `{"n":12345678901234567890}` || cmp.Diff(want, sent[0].Headers) != "" {
		t.Errorf("sent %+v", sent)
	}
	if found, err := b.open().Newest(t.Context(), deadletter.Query{}); err != nil || found.Replayed != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

// A record goes to the partition that it was in, where those lie that it is to be in order with; under another key, to that of the key.
func TestReplayToThePartitionOfBefore(t *testing.T) {
	t.Parallel()
	k, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	const partitions = 8
	for topic, n := range map[string]int32{letters: 1, "requests": partitions} {
		if err := k.Cluster().CreateTopic(topic, n, nil); err != nil {
			t.Fatal(err)
		}
	}
	cluster := kafka.Cluster{Brokers: k.Brokers()}
	reader, err := kafka.NewReader(cluster)
	if err != nil {
		t.Fatal(err)
	}
	producer, err := deadletter.NewProducer(cluster, []string{"requests", letters})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(producer.Close(), reader.Close()); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t, reader, producer}
	want := map[string]int32{}
	letter := func(key []byte, partition int32, value string, in int32) {
		c := cause
		c.Partition = partition
		r := deadletter.New(wire.Record{Key: key, Value: []byte(value)}, c)
		r.Topic = letters
		b.send(r)
		want[value] = in
	}
	for p := range int32(partitions) {
		letter(nil, p, fmt.Sprint("no key ", p), p)
		letter([]byte("k"), p, fmt.Sprint("a key ", p), p)
	}
	letter(nil, partitions, "a partition that is gone", wire.Partition(nil, partitions))
	other := (wire.Partition([]byte("edited"), partitions) + 1) % partitions
	letter([]byte("k"), other, "edited", wire.Partition([]byte("edited"), partitions))
	topic := b.open()
	r := deadletter.Replay{
		Topic: topic, Inputs: []string{"requests"}, Sender: b.producer, Out: io.Discard,
		Edit: func(_ context.Context, l deadletter.Letter) (deadletter.Letter, error) {
			if string(l.Value) == "edited" {
				l.Key = []byte("edited")
			}
			return l, nil
		},
	}
	if result, err := r.Run(t.Context(), topic.All()); err != nil || result.Replayed != len(want) {
		t.Fatalf("%+v, %v", result, err)
	}
	spans, err := b.reader.Spans("requests")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int32{}
	for _, s := range spans {
		err := b.reader.Read(t.Context(), "requests", s, func(r wire.Record) error {
			if r.Value != nil { // not the end of a request
				got[string(r.Value)] = s.Partition
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
