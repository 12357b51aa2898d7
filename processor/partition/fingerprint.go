package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// fingerprint tells a repeated request from another one under the same key: a hash over method and messages.
type fingerprint struct{ hash hash.Hash }

func newFingerprint(method string, messages ...[]byte) fingerprint {
	f := fingerprint{sha256.New()}
	f.add([]byte(method))
	for _, m := range messages {
		f.add(m)
	}
	return f
}

func (f fingerprint) add(part []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(part)))
	f.hash.Write(n[:])
	f.hash.Write(part)
}

// sum is the fingerprint of what was added so far.
func (f fingerprint) sum() []byte { return f.hash.Sum(nil) }
