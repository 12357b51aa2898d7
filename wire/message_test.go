package wire_test

import (
	"testing"

	"kafkagrpc/wire"
)

func TestMessage(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, plain, encoded string }{
		{"empty", "", ""},
		{"plain", "not found: key ~", "not found: key ~"},
		{"percent", "100% sure", "100%25 sure"},
		{"control", "a\tb\r\n", "a%09b%0D%0A"},
		{"UTF-8", "ü☺", "%C3%BC%E2%98%BA"},
		{"not UTF-8", "\xff\x00", "%FF%00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := wire.EncodeMessage(tt.plain); got != tt.encoded {
				t.Errorf("EncodeMessage = %q, want %q", got, tt.encoded)
			}
			if got := wire.DecodeMessage(tt.encoded); got != tt.plain {
				t.Errorf("DecodeMessage = %q, want %q", got, tt.plain)
			}
		})
	}
}

func TestDecodeMessageTakesAnything(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"%":         "%",
		"%2":        "%2",
		"%zz":       "%zz",
		"%2z%41":    "%2zA",
		"%e2%98%ba": "☺",
		"raw ü":     "raw ü",
		"%%41":      "%A",
	}
	for encoded, want := range tests {
		t.Run(encoded, func(t *testing.T) {
			t.Parallel()
			if got := wire.DecodeMessage(encoded); got != want {
				t.Errorf("DecodeMessage(%q) = %q, want %q", encoded, got, want)
			}
		})
	}
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{"", "100% sure", "%zz", "ü\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		encoded := wire.EncodeMessage(s)
		for i := range len(encoded) {
			if encoded[i] < 0x20 || encoded[i] > 0x7e {
				t.Fatalf("EncodeMessage(%q) = %q is not printable", s, encoded)
			}
		}
		if got := wire.DecodeMessage(encoded); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
		_ = wire.DecodeMessage(s)
	})
}
