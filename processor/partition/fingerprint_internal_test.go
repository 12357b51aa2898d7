package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
)

// Rows keep fingerprints: what one is made of never changes.
func TestFingerprintIsOverMethodAndMessagesAndTheirLengths(t *testing.T) {
	f := newFingerprint()
	for _, parts := range [][]string{{"s/m"}, {"s/m", ""}, {"s/m", "a", "b"}, {"s/m", "ab"}, {"", "s/mab"}} {
		f.begin(parts[0])
		for _, m := range parts[1:] {
			f.add([]byte(m))
		}
		var all []byte
		for _, p := range parts {
			all = append(binary.BigEndian.AppendUint64(all, uint64(len(p))), p...)
		}
		want := sha256.Sum256(all)
		if first, again := f.sum(), f.sum(); !slices.Equal(first, want[:]) || !slices.Equal(again, want[:]) {
			t.Errorf("%q: %x and %x, want %x", parts, first, again, want)
		}
	}
}

func TestFingerprintTakesLittleMemory(t *testing.T) {
	f, message := newFingerprint(), []byte("hello")
	one := func() {
		f.begin("grpc.examples.echo.Echo/UnaryEcho")
		f.add(message)
		f.sum()
	}
	if n := testing.AllocsPerRun(100, one); n > 1 { // the fingerprint, which the row keeps
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFingerprint(b *testing.B) {
	f, message := newFingerprint(), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		f.begin("grpc.examples.echo.Echo/UnaryEcho")
		f.add(message)
		f.sum()
	}
}
