package wire

import (
	"encoding/binary"
	"hash"
)

// Murmur2 is the hash that Java's default partitioner takes of a record's key. Everyone who writes a topic of
// ours uses it, so that equal keys meet in one partition whoever produced them.
func Murmur2(key []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := binary.LittleEndian.Uint32(key) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// Partition is the partition of a key in a topic that has so many of them, which must be at least 1.
func Partition(key []byte, partitions int32) int32 {
	return int32(Murmur2(key)&0x7fffffff) % partitions
}

// NewHash is Murmur2 as a [hash.Hash32] whose sum is cut to 31 bits, so that the remainder by a number of
// partitions is that of [Partition]. It keeps all that was written until Reset: the hash needs the length
// first. One is for one goroutine.
func NewHash() hash.Hash32 { return new(keyHash) }

type keyHash struct{ key []byte }

func (h *keyHash) Write(p []byte) (int, error) {
	h.key = append(h.key, p...)
	return len(p), nil
}

func (h *keyHash) Sum32() uint32       { return Murmur2(h.key) & 0x7fffffff }
func (h *keyHash) Sum(b []byte) []byte { return binary.BigEndian.AppendUint32(b, h.Sum32()) }
func (h *keyHash) Reset()              { h.key = h.key[:0] }
func (h *keyHash) Size() int           { return 4 }
func (h *keyHash) BlockSize() int      { return 4 }
