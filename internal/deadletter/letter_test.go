package deadletter_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func header(name, value string) wire.Header { return wire.Header{Name: name, Value: []byte(value)} }

var requestSource = deadletter.Source{Remotes: []topology.Remote{{Contract: wire.DefaultContract()}}}

var (
	cause = deadletter.Cause{
		Reason: "no way", Code: codes.Unavailable, Attempts: 7,
		Topic: "requests", Partition: 3, Offset: 17, Timestamp: time.UnixMilli(1_700_000_000_123),
	}
	own = []wire.Header{header("zilla:service", "a.B"), header("x", ""), header("x", "\xff")}
)

func TestLetterIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	bare := cause
	bare.Code, bare.Attempts = codes.OK, 0
	classed := cause
	classed.Class = "unreadable"
	for _, tc := range []struct {
		name    string
		own     []wire.Header
		cause   deadletter.Cause
		headers int // behind the record's own
	}{
		{name: "everything", own: own, cause: cause, headers: 7},
		{name: "a class", own: own, cause: classed, headers: 8},
		{name: "no code, no attempts", own: own, cause: bare, headers: 5},
		{name: "no headers of its own", cause: cause, headers: 7},
		{name: "headers of its own that look like ours", cause: bare, headers: 5, own: []wire.Header{
			header("kafkagrpc.error.reason", "forged"), header("kafkagrpc.error.code", "5"), header("kafkagrpc.error.attempts", "9"),
		}},
		{name: "headers of a mark", cause: cause, headers: 7, own: []wire.Header{
			header("kafkagrpc.replayed.partition", "0"), header("kafkagrpc.replayed.offset", "0"), header("kafkagrpc.replayed.timestamp", "1"),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := deadletter.New(wire.Record{Key: []byte("k"), Headers: tc.own}, tc.cause)
			if got := len(r.Headers) - len(tc.own); got != tc.headers {
				t.Errorf("%d headers were added, not %d: %q", got, tc.headers, r.Headers)
			}
			l, ok := deadletter.Parse(r)
			if !ok {
				t.Fatal("it is not read as a letter")
			}
			if diff := cmp.Diff(tc.cause, l.Cause); diff != "" {
				t.Error(diff)
			}
			if len(l.Own) != len(tc.own) {
				t.Errorf("its own headers: %q", l.Own)
			}
			if _, ok := deadletter.ParseMark(r); ok {
				t.Error("it is read as a mark")
			}
		})
	}
}

func TestOtherRecordsAreNoLetters(t *testing.T) {
	t.Parallel()
	letter := deadletter.New(wire.Record{Headers: own}, cause)
	for name, headers := range map[string][]wire.Header{
		"no headers":         nil,
		"a request":          own,
		"no reason":          cause.Headers()[1:],
		"no topic":           {header("kafkagrpc.error.reason", "x"), header("kafkagrpc.error.partition", "0"), header("kafkagrpc.error.offset", "0")},
		"an offset of words": {header("kafkagrpc.error.reason", "x"), header("kafkagrpc.error.topic", "t"), header("kafkagrpc.error.partition", "0"), header("kafkagrpc.error.offset", "last")},
		"not at the end":     append(letter.Headers[:len(letter.Headers):len(letter.Headers)], header("x", "y")),
		"a mark":             deadletter.MarkOf(deadletter.Letter{}, time.Now()).Headers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if l, ok := deadletter.Parse(wire.Record{Headers: headers}); ok {
				t.Errorf("read as %+v", l)
			}
		})
	}
}

func TestAgainIsTheRecordWithoutDeadline(t *testing.T) {
	t.Parallel()
	r := deadletter.New(wire.Record{Topic: "letters", Key: []byte{}, Value: []byte{}, Headers: []wire.Header{
		header("identity", "me"), header("zilla:service", "a.B"), header("meta:x", "1"), header("meta:x", "2"), header("meta:grpc-timeout", "5S"),
		header("grpc:call", "attempt"), header("grpc:deadline", "1"), header("kafkagrpc.source", "0/0/0/t"), header("traceparent", "00-x"),
		header("grpc:message", "0"),
	}}, cause)
	l, ok := deadletter.Parse(r)
	if !ok {
		t.Fatal("not a letter")
	}
	want := wire.Record{Topic: "requests", Key: []byte{}, Value: []byte{}, Headers: []wire.Header{
		header("identity", "me"), header("zilla:service", "a.B"), header("meta:x", "1"), header("meta:x", "2"), header("grpc:call", "attempt"), header("traceparent", "00-x"),
	}}
	end := want
	end.Value = nil
	if diff := cmp.Diff([]wire.Record{want, end}, l.Again()); diff != "" {
		t.Error(diff)
	}
	uncalled := l
	uncalled.Cause.Code, uncalled.Cause.Attempts = codes.OK, 0 // its end became a letter too
	if diff := cmp.Diff([]wire.Record{want}, uncalled.Again()); diff != "" {
		t.Error(diff)
	}
	answered := l
	answered.Cause.Attempts = 0 // without a call, as one that is too old
	if diff := cmp.Diff([]wire.Record{want, end}, answered.Again()); diff != "" {
		t.Error(diff)
	}
	l.Key, l.Value = nil, nil
	if again := l.Again(); len(again) != 1 || again[0].Key != nil || again[0].Value != nil {
		t.Error("null does not stay null")
	}
}

func TestMarkIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	l := deadletter.Letter{Record: wire.Record{Topic: "letters", Partition: 2, Offset: 40, Key: []byte("k")}}
	at := time.UnixMilli(1_700_000_000_456)
	r := deadletter.MarkOf(l, at)
	if r.Topic != "letters" || string(r.Key) != "k" || r.Value != nil {
		t.Errorf("the mark is %+v", r)
	}
	got, ok := deadletter.ParseMark(r)
	if want := (deadletter.Mark{Letter: deadletter.Position{Partition: 2, Offset: 40}, At: at}); !ok || got != want {
		t.Errorf("read as %+v, %v", got, ok)
	}
	r.Value = []byte{}
	if _, ok := deadletter.ParseMark(r); ok {
		t.Error("a record with a value is read as a mark")
	}
}

func TestPositionsAndRanges(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]deadletter.Position{"0@0": {}, "7@12": {Partition: 7, Offset: 12}} {
		if got, err := deadletter.ParsePosition(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "@", "1@", "@1", "-1@1", "1@-1", "1@1@1", "a@1", "1@9223372036854775807", "4294967296@1", "1@1-2"} {
		if _, err := deadletter.ParsePosition(text); err == nil || !strings.Contains(err.Error(), "0@12") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]kafka.Span{"0@0-0": {To: 1}, "7@12-40": {Partition: 7, From: 12, To: 41}} {
		if got, err := deadletter.ParseRange(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0@1", "0@1-", "0@-1", "0@1-0", "0@1-0@2", "0-1", "0@1-9223372036854775807"} {
		if _, err := deadletter.ParseRange(text); err == nil {
			t.Errorf("%q is a range", text)
		}
	}
}

func table(t *testing.T, replayed bool, columns int, letters ...deadletter.Letter) []string {
	t.Helper()
	var b strings.Builder
	if err := deadletter.Table(&b, letters, requestSource.Request, replayed, columns); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func TestTable(t *testing.T) {
	t.Parallel()
	l := deadletter.Letter{
		Record: wire.Record{Partition: 1, Offset: 2, Timestamp: time.UnixMilli(0), Key: []byte("k")},
		Own:    []wire.Header{header("zilla:service", "a.B"), header("zilla:method", "C"), header("zilla:correlation-id", "id")}, Cause: cause,
	}
	lines := table(t, false, 1000, l)
	if want := "1@2     1970-01-01T00:00:00Z  Unavailable  requests 3@17  k    id              a.B/C   no way"; lines[1] != want {
		t.Errorf("\n%s\nwant\n%s", lines[1], want)
	}
	l.Replayed = time.UnixMilli(1000)
	if line := table(t, true, 1000, l)[1]; !strings.HasSuffix(line, "no way  1970-01-01T00:00:01Z") {
		t.Errorf("no time of the replay: %s", line)
	}
	for name, key := range map[string][]byte{
		"null": nil, `""`: {}, `"null"`: []byte("null"), `"\x00\xff"`: {0, 0xff}, `"a\x1b[31m"`: []byte("a\x1b[31m"), `"\"a\""`: []byte(`"a"`), `"a\nb"`: []byte("a\nb"),
		"käse": []byte("käse"),
	} {
		l.Key = key
		if line := table(t, false, 1000, l)[1]; !strings.Contains(line, "  "+name+"  ") {
			t.Errorf("key %q is not shown as %s: %s", key, name, line)
		}
	}
	l.Cause.Reason, l.Own = strings.Repeat("reason ", 100_000), nil
	for _, columns := range []int{100, 120, 200} {
		for _, line := range table(t, false, columns, l) {
			if n := len([]rune(line)); n > columns {
				t.Errorf("%d columns, not %d: %s", n, columns, line)
			}
		}
	}
	line := table(t, false, 120, l)[1]
	if !strings.HasPrefix(line, "1@2") || !strings.Contains(line, "1970-01-01T00:00:00Z") || !strings.Contains(line, "...") {
		t.Errorf("cut to %s", line)
	}
	if line := table(t, false, 1, l)[1]; !strings.HasPrefix(line, "1@2") {
		t.Errorf("no width at all: %s", line)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	l, ok := deadletter.Parse(func() wire.Record {
		r := deadletter.New(wire.Record{Key: []byte{0xff}, Value: []byte("v"), Headers: []wire.Header{
			header("zilla:service", "a.B"), header("zilla:correlation-id", "id"), header("meta:authorization", "hunter2"), header("meta:Cookie", "hunter2"),
			header("authorization", "hunter2"), header("bin", "\xff"), {Name: "null"},
		}}, cause)
		r.Topic, r.Partition, r.Offset, r.Timestamp = "letters", 1, 2, time.UnixMilli(5)
		return r
	}())
	if !ok {
		t.Fatal("not a letter")
	}
	l.Replayed = time.UnixMilli(6)
	b, err := l.JSON(requestSource.Request(l))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	field := func(name string, value any) map[string]any { return map[string]any{"name": name, "value": value} }
	want := map[string]any{
		"topic": "letters", "letter": "1@2", "partition": 1.0, "offset": 2.0, "time": "1970-01-01T00:00:00.005Z",
		"reason": "no way", "code": "Unavailable", "attempts": 7.0,
		"source":         map[string]any{"topic": "requests", "partition": 3.0, "offset": 17.0, "time": "2023-11-14T22:13:20.123Z"},
		"correlation-id": "id", "service": "a.B", "method": "",
		"key": nil, "key-base64": "/w==", "value-base64": "dg==", "replayed": "1970-01-01T00:00:00.006Z",
		"headers": []any{
			field("zilla:service", "a.B"), field("zilla:correlation-id", "id"), field("meta:authorization", "***"), field("meta:Cookie", "***"),
			field("authorization", "***"), map[string]any{"name": "bin", "value": nil, "value-base64": "/w=="}, field("null", nil),
			field("kafkagrpc.error.reason", "no way"), field("kafkagrpc.error.topic", "requests"), field("kafkagrpc.error.partition", "3"),
			field("kafkagrpc.error.offset", "17"), field("kafkagrpc.error.timestamp", "1700000000123"), field("kafkagrpc.error.code", "14"), field("kafkagrpc.error.attempts", "7"),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(string(b), "hunter2") {
		t.Error("a credential is printed")
	}
}
