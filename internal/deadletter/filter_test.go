package deadletter_test

import (
	"strings"
	"testing"
	"time"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/wire"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func parseFilter(fields map[string]string) (deadletter.Filter, error) {
	return deadletter.ParseFilter(func(name string) string { return fields[name] }, func(name string) string { return "--" + name }, now)
}

func TestFilter(t *testing.T) {
	t.Parallel()
	source := requestSource
	of := func(key []byte, age time.Duration, reason, class, service, method string) deadletter.Letter {
		return deadletter.Letter{
			Record: wire.Record{Key: key, Timestamp: now.Add(-age)},
			Own:    []wire.Header{header("zilla:service", service), header("zilla:method", method)},
			Cause:  deadletter.Cause{Reason: reason, Class: class},
		}
	}
	letters := map[string]deadletter.Letter{
		"order":  of([]byte("order-1"), time.Minute, "retries exhausted: Unavailable Down", "retries_exhausted", "a.B", "C"),
		"binary": of([]byte{0xff, 0, 'x'}, time.Hour, "no zilla:correlation-id header", "no_correlation_id", "", ""),
		"old":    of(nil, 2*time.Hour, "Retries exhausted: an older version", "", "a.B", "D"), // without a class
		"future": of([]byte(`"order`), -time.Minute, "it names retries_exhausted", "unreadable", "a.BC", "C"),
	}
	const all = "binary future old order"
	for _, tc := range []struct {
		fields map[string]string
		want   string
	}{
		{want: all},
		{fields: map[string]string{"reason": "retries_exhausted"}, want: "future order"},
		{fields: map[string]string{"reason": "RETRIES exhausted"}, want: "old order"},
		{fields: map[string]string{"reason": "nothing like it"}},
		{fields: map[string]string{"method": "a.B/C"}, want: "order"},
		{fields: map[string]string{"method": "a.B/*"}, want: "old order"},
		{fields: map[string]string{"method": "C"}, want: "future order"},
		{fields: map[string]string{"method": "*"}, want: all},
		{fields: map[string]string{"method": "a.B"}},
		{fields: map[string]string{"since": "1h"}, want: "binary future order"},
		{fields: map[string]string{"until": "1h"}, want: "old"},
		{fields: map[string]string{"since": "2h", "until": "1m"}, want: "binary old"},
		{fields: map[string]string{"since": "2026-01-31T13:00:00+01:00"}, want: "future"},
		{fields: map[string]string{"since": "2026-02-01T00:00:00Z"}},
		{fields: map[string]string{"until": "2099-01-01T00:00:00Z"}, want: all},
		{fields: map[string]string{"key-prefix": "order"}, want: "order"},
		{fields: map[string]string{"key-prefix": `"\xff\x00"`}, want: "binary"},
		{fields: map[string]string{"key-prefix": `"\"order"`}, want: "future"},
		{fields: map[string]string{"key-prefix": "null"}},
		{fields: map[string]string{"reason": "retries", "method": "C", "key-prefix": "o", "since": "5m"}, want: "order"},
	} {
		filter, err := parseFilter(tc.fields)
		if err != nil {
			t.Errorf("%v: %v", tc.fields, err)
			continue
		}
		picks := source.Picks(filter)
		var got []string
		for name := range strings.FieldsSeq(all) {
			if picks(letters[name]) {
				got = append(got, name)
			}
		}
		if picked := strings.Join(got, " "); picked != tc.want {
			t.Errorf("%v: %s, want %s", tc.fields, picked, tc.want)
		}
	}
}

func TestFilterThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		fields map[string]string
		want   []string
	}{
		{map[string]string{"since": "yesterday", "until": "-5m"}, []string{`--since "yesterday": it is a time`, `--until "-5m": it is a time`}},
		{map[string]string{"since": "1h", "until": "1h"}, []string{"--until must be after --since"}},
		{map[string]string{"since": "1m", "until": "1h"}, []string{"--until must be after --since"}},
		{map[string]string{"key-prefix": `"order`}, []string{"--key-prefix", "in quotes"}},
	} {
		_, err := parseFilter(tc.fields)
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: no %q in: %v", tc.fields, want, err)
			}
		}
	}
}

// Of a topic with years of letters only the end is read.
func TestTopicIsReadFromATimeOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	begin := time.Now().Add(-24 * time.Hour).Truncate(time.Millisecond)
	for n, key := range []string{"old", "older", "new", "late"} {
		at := begin.Add([]time.Duration{0, -time.Hour, 12 * time.Hour, time.Minute}[n])
		b.letter(key, func(r *wire.Record) { r.Timestamp = at })
	}
	since := begin.Add(12 * time.Hour)
	open := func(since time.Time) *deadletter.Topic {
		topic, err := deadletter.Open(t.Context(), b.reader, letters, since)
		if err != nil {
			t.Fatal(err)
		}
		return topic
	}
	if spans := open(since).All(); len(spans) != 1 || spans[0].From != 2 || spans[0].To != 4 {
		t.Errorf("%v is read, not what was written since", spans)
	}
	source := requestSource
	for _, replayed := range []int{0, 1} {
		found, err := open(since).Newest(t.Context(), deadletter.Query{Picks: source.Picks(deadletter.Filter{Since: since})})
		if err != nil || found.Found != 1-replayed || found.Replayed != replayed {
			t.Errorf("found %+v, %v", found, err)
		}
		if _, _, err := b.replay(t.Context(), b.producer); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []time.Time{time.Now().Add(48 * time.Hour), {}, time.UnixMilli(-2)} {
		want := int64(9) // four letters, their marks, and what is next
		if at.After(begin) {
			want = 1
		}
		spans := open(at).All()
		if n := spans[0].To - spans[0].From + 1; n != want {
			t.Errorf("since %v: %v is read", at, spans)
		}
	}
	// A letter that is named is found wherever it is.
	if span, err := open(since).Exactly(t.Context(), deadletter.Position{}); err != nil || span.To != 1 {
		t.Errorf("%v, %v", span, err)
	}
}
