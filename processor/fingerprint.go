package processor

import (
	"crypto/sha256"
	"encoding/binary"
)

// fingerprint tells a repeated request from another one under the same key: a hash over method and messages.
func fingerprint(method string, message []byte) []byte {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	part([]byte(method))
	part(message)
	return h.Sum(nil)
}
