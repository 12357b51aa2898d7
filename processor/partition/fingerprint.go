package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// fingerprint tells a repeated request from another one under the same key: a hash over method and messages.
type fingerprint struct {
	hash    hash.Hash
	scratch []byte // what a hash is given must not be on the stack
}

func newFingerprint() *fingerprint { return &fingerprint{hash: sha256.New()} }

// begin begins with a request without messages.
func (f *fingerprint) begin(method string) {
	f.hash.Reset()
	f.scratch = append(binary.BigEndian.AppendUint64(f.scratch[:0], uint64(len(method))), method...)
	f.hash.Write(f.scratch)
}

func (f *fingerprint) add(message []byte) {
	f.scratch = binary.BigEndian.AppendUint64(f.scratch[:0], uint64(len(message)))
	f.hash.Write(f.scratch)
	f.hash.Write(message)
}

// sum is the fingerprint of what was added so far.
func (f *fingerprint) sum() []byte { return f.hash.Sum(nil) }
