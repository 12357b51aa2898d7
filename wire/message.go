package wire

import (
	"strings"
	"unicode/utf8"
)

// EncodeMessage writes a status message as gRPC writes grpc-message: bytes outside of printable ASCII, and the
// percent sign, as %XX. It takes any string.
func EncodeMessage(s string) string {
	const hex = "0123456789ABCDEF"
	plain := 0
	for plain < len(s) && isPlain(s[plain]) {
		plain++
	}
	if plain == len(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	b.WriteString(s[:plain])
	for i := plain; i < len(s); i++ {
		if c := s[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&0xf]})
		}
	}
	return b.String()
}

func isPlain(c byte) bool { return c >= 0x20 && c <= 0x7e && c != '%' }

// DecodeMessage reads what EncodeMessage wrote. A percent sign that no two hex digits follow stays as it is:
// a status with an odd message is worth more than none.
func DecodeMessage(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high >= 0 && low >= 0 {
				b.WriteByte(byte(high<<4 | low))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// ClipMessage cuts a status message, where it must, so that it takes at most so many bytes when a gRPC library encodes it. It
// also answers how many it takes.
func ClipMessage(s string, bytes int) (clipped string, size int) {
	const rest = "..."
	cut, kept := 0, 0 // what rest still fits behind
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1: // a library sends U+FFFD in its place
			size += len("%EF%BF%BD")
		case n == 1 && isPlain(s[i]):
			size++
		default:
			size += len("%XX") * n
		}
		if i += n; size <= bytes-len(rest) {
			cut, kept = i, size
		}
	}
	if size <= bytes {
		return s, size
	}
	end := rest[:max(0, min(bytes, len(rest)))]
	return s[:cut] + end, kept + len(end)
}

// unhex is the value of a hex digit, or -1.
func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
