package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"strings"
	"testing"

	"kafkagrpc/wire"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		next      map[int32]int64
		hex, text string
	}{
		{"none", map[int32]int64{}, "0100", "AQA"},
		{"one partition", map[int32]int64{0: 2}, "01020004", "AQIABA"},
		{"two partitions", map[int32]int64{0: 2, 1: 1}, "010400040202", "AQQABAIC"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id := wire.EncodeProgress(tt.next)
			if got := hex.EncodeToString(id); got != tt.hex {
				t.Errorf("EncodeProgress = %s, want %s", got, tt.hex)
			}
			if got := wire.EncodeProgressText(tt.next); got != tt.text {
				t.Errorf("EncodeProgressText = %s, want %s", got, tt.text)
			}
			got, err := wire.DecodeProgress(id)
			if err != nil || !maps.Equal(got, tt.next) {
				t.Errorf("DecodeProgress = %v, %v", got, err)
			}
			for _, padding := range []string{"", "=", "=="} {
				got, err = wire.DecodeProgressText(tt.text + padding)
				if err != nil || !maps.Equal(got, tt.next) {
					t.Errorf("DecodeProgressText with padding %q = %v, %v", padding, got, err)
				}
			}
		})
	}
}

func TestAppendMessageID(t *testing.T) {
	t.Parallel()
	id := wire.EncodeProgress(map[int32]int64{0: 2, 1: 1})
	got := wire.AppendMessageID([]byte{0x0a, 0x01, 'x'}, wire.DefaultMessageIDField, id)
	want, _ := hex.DecodeString("0a0178" + "faff0f06" + "010400040202")
	if !bytes.Equal(got, want) {
		t.Errorf("AppendMessageID = %x, want %x", got, want)
	}
}

func TestDecodeProgressErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, hex, want string }{
		{"empty", "", "empty"},
		{"other version", "020200", "version 2"},
		{"no count", "01", "ends within"},
		{"negative count", "0101", "do not fit"},
		{"count without entries", "01fe01", "do not fit"},
		{"cut off", "01020080", "ends within"},
		{"negative partition", "01020100", "cannot exist"},
		{"negative offset", "01020001", "cannot exist"},
		{"repeated partition", "010400000002", "twice"},
		{"bytes behind", "0102000400", "follow"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = wire.DecodeProgress(b); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := wire.DecodeProgressText("*"); err == nil {
		t.Error("no error for text that is not base64")
	}
}

// Either alphabet is read: callers encode the bytes of a message with what they have.
func TestDecodeProgressTextOfEitherAlphabet(t *testing.T) {
	t.Parallel()
	next := map[int32]int64{0: 31, 1: 8191, 2: 1<<20 - 1} // which has bytes of all ones
	id := wire.EncodeProgress(next)
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if got, err := wire.DecodeProgressText(encoding.EncodeToString(id)); err != nil || !maps.Equal(got, next) {
			t.Errorf("%s: %v, %v", encoding.EncodeToString(id), got, err)
		}
	}
	if text := base64.StdEncoding.EncodeToString(id); !strings.ContainsAny(text, "+/") {
		t.Errorf("%s is the same in both", text)
	}
}

func FuzzDecodeProgress(f *testing.F) {
	f.Add(wire.EncodeProgress(map[int32]int64{0: 2, 1: 1}))
	f.Add([]byte{1, 0xfe, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		next, err := wire.DecodeProgress(b)
		if err != nil {
			return
		}
		again, err := wire.DecodeProgress(wire.EncodeProgress(next))
		if err != nil || !maps.Equal(next, again) {
			t.Errorf("%v came back as %v, %v", next, again, err)
		}
	})
}
