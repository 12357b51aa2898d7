package records_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kafkagrpc/e2e/conformance/records"
	"kafkagrpc/wire"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	got := records.Format([]wire.Record{
		{Topic: "requests", Key: []byte("a key"), Value: append([]byte("\n\xff"), strings.Repeat("x", 1000)...), Headers: []wire.Header{
			{Name: "zilla:method", Value: []byte("Unary")}, {Name: "grpc:call", Value: []byte("<call 1>")},
			{Name: "meta:odd", Value: []byte("<B>")}, {Name: "meta:none", Value: nil},
		}},
		{Topic: "replies", Key: []byte("k"), Value: []byte{}},
		{Topic: "replies", Key: []byte("k")},
	})
	const want = `requests a key
value "\n\xff" + 1000*"x"
zilla:method = Unary
grpc:call = <call 1>
meta:odd = "<B>"
meta:none = ""

replies k
value ""

replies k
value null
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the text differs (-want +got):\n%s", diff)
	}
}

// What is written is read again as it was, whatever its bytes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(0, 200), func(n int) string { return strings.Repeat("=", n) + " + \"" }))
	rapid.Check(t, func(t *rapid.T) {
		var want []wire.Record
		for range rapid.IntRange(0, 3).Draw(t, "records") {
			r := wire.Record{Topic: "topic", Key: []byte(text.Draw(t, "key"))}
			if rapid.Bool().Draw(t, "not null") {
				r.Value = []byte(text.Draw(t, "value"))
			}
			for range rapid.IntRange(0, 2).Draw(t, "headers") {
				r.Headers = append(r.Headers, wire.Header{Name: "meta:name", Value: []byte(text.Draw(t, "header"))})
			}
			want = append(want, r)
		}
		written := records.Format(want)
		got, err := records.Parse(written)
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("read otherwise than written (-want +got):\n%s\n%s", diff, written)
		}
	})
}

func TestErrorsNameTheLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"requests\n":                              "line 1",
		"requests k\n\nrequests k\nvalue null":    "line 2: the record above has no value",
		"# comment\nrequests k\nvalue nothing":    "line 3",
		"requests k\nvalue x*\"y\"":               "line 2",
		"requests k\nvalue null\nzilla:method: x": "line 3",
		"requests k\nvalue null\na = \"b":         "line 3",
	} {
		if _, err := records.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}
