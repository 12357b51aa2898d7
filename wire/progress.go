package wire

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// DefaultMessageIDField is the number of the field that AppendMessageID adds unless configured otherwise.
const DefaultMessageIDField = 32767

const progressVersion = 1

// EncodeProgress writes how far a reader of a topic has come: for each partition the next offset to read. It
// is the message id of the fetch capability.
func EncodeProgress(next map[int32]int64) []byte {
	b := append(make([]byte, 0, 2+4*len(next)), progressVersion)
	b = binary.AppendVarint(b, int64(len(next)))
	for _, partition := range slices.Sorted(maps.Keys(next)) {
		b = binary.AppendVarint(b, int64(partition))
		b = binary.AppendVarint(b, next[partition])
	}
	return b
}

// DecodeProgress reads what EncodeProgress wrote.
func DecodeProgress(b []byte) (map[int32]int64, error) {
	if len(b) == 0 {
		return nil, errors.New("message id: it is empty")
	}
	if b[0] != progressVersion {
		return nil, fmt.Errorf("message id: version %d is unknown; only %d can be read", b[0], progressVersion)
	}
	b = b[1:]
	count, b, err := varint(b)
	if err != nil {
		return nil, err
	}
	// Each partition takes two bytes at least, so a false count cannot make us allocate.
	if count < 0 || count > int64(len(b)/2) {
		return nil, fmt.Errorf("message id: %d partitions do not fit in %d bytes", count, len(b))
	}
	next := make(map[int32]int64, count)
	for range count {
		var partition, offset int64
		if partition, b, err = varint(b); err != nil {
			return nil, err
		}
		if offset, b, err = varint(b); err != nil {
			return nil, err
		}
		if partition < 0 || partition > math.MaxInt32 || offset < 0 {
			return nil, fmt.Errorf("message id: partition %d with offset %d cannot exist", partition, offset)
		}
		if _, repeated := next[int32(partition)]; repeated {
			return nil, fmt.Errorf("message id: partition %d is named twice", partition)
		}
		next[int32(partition)] = offset
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("message id: %d bytes follow its end", len(b))
	}
	return next, nil
}

func varint(b []byte) (int64, []byte, error) {
	v, n := binary.Varint(b)
	if n <= 0 {
		return 0, nil, errors.New("message id: it ends within a number, or a number exceeds 64 bits")
	}
	return v, b[n:], nil
}

// EncodeProgressText is EncodeProgress as base64url, for metadata such as last-message-id.
func EncodeProgressText(next map[int32]int64) string {
	return base64.RawURLEncoding.EncodeToString(EncodeProgress(next))
}

// DecodeProgressText reads what EncodeProgressText wrote, padded or not, and what callers have made of the bytes with the usual base64.
func DecodeProgressText(s string) (map[int32]int64, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "=")))
	if err != nil {
		return nil, fmt.Errorf("message id: it is not base64: %w", err)
	}
	return DecodeProgress(b)
}

// AppendMessageID adds a message id to a protobuf message, as a field of that number. Readers that do not
// know the field skip it. Numbers are those of protobuf, 1 to 536870911.
func AppendMessageID(value []byte, field int32, id []byte) []byte {
	const lengthDelimited = 2
	value = binary.AppendUvarint(value, uint64(field)<<3|lengthDelimited)
	value = binary.AppendUvarint(value, uint64(len(id)))
	return append(value, id...)
}
