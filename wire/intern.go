package wire

import "sync/atomic"

const (
	internSets  = 512
	maxInterned = 64 // bytes
)

// interned are strings that were read or written lately, two in each set, the latest first. What strangers write takes the place of others, and
// no further memory.
var interned [internSets][2]atomic.Pointer[string]

// intern is string(b) for what most records repeat, such as names of headers and methods: it takes memory only for what is new, or long.
func intern(b []byte) string {
	if len(b) > maxInterned {
		return string(b)
	}
	set := &interned[Murmur2(b)%internSets]
	first := set[0].Load()
	if first != nil && *first == string(b) {
		return *first
	}
	if second := set[1].Load(); second != nil && *second == string(b) {
		return *second
	}
	s := string(b)
	set[1].Store(first)
	set[0].Store(&s)
	return s
}
