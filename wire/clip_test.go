package wire_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kafkagrpc/wire"
)

// What a gRPC library makes of a clipped message fits, and is as much of the message as does.
func TestClipMessage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, most := strings.Repeat(texts.Draw(t, "message"), rapid.IntRange(0, 20).Draw(t, "times")), rapid.IntRange(-5, 200).Draw(t, "bytes")
		sent := func(s string) int {
			var whole strings.Builder
			for _, r := range s { // an invalid byte is U+FFFD
				whole.WriteRune(r)
			}
			return len(wire.EncodeMessage(whole.String()))
		}
		got, size := wire.ClipMessage(s, most)
		switch {
		case sent(got) != size:
			t.Fatalf("%q takes %d bytes, it says %d", got, sent(got), size)
		case sent(s) <= most && got != s:
			t.Fatalf("%q was cut to %q though it fits", s, got)
		case size > max(most, 0):
			t.Fatalf("%q takes %d bytes, more than %d", got, size, most)
		case sent(s) > most && most >= 3 && !strings.HasSuffix(got, "..."):
			t.Fatalf("%q does not say that it was cut", got)
		case utf8.ValidString(s) && !utf8.ValidString(got):
			t.Fatalf("%q was cut within a character: %q", s, got)
		case sent(s) > most && size < most-3-len("%F0%9F%98%80") && most > 3:
			t.Fatalf("%q takes %d bytes of %d", got, size, most)
		}
	})
}

func TestMetadataWithin(t *testing.T) {
	t.Parallel()
	m := wire.Metadata{{"a", "1234567"}, {"b", "12"}, {"c", "123"}, {"d", "123"}}
	size := func(f wire.Field) int { return len(f.Value) }
	for _, tt := range []struct {
		bytes int
		want  wire.Metadata
	}{
		{15, m},
		{14, wire.Metadata{m[1], m[2], m[3]}},
		{8, wire.Metadata{m[1], m[2], m[3]}},
		{7, wire.Metadata{m[1], m[3]}},
		{2, wire.Metadata{m[1]}},
		{1, nil},
		{-1, nil},
	} {
		got, left := m.Within(tt.bytes, size)
		if diff := cmp.Diff(tt.want, got); diff != "" || left != len(m)-len(tt.want) {
			t.Errorf("within %d bytes, %d left out (-want +got):\n%s", tt.bytes, left, diff)
		}
	}
}
