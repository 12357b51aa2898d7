package views

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
)

// Cursors are opaque to callers: base64url of a letter that says what the cursor is of, and numbers. They hold no state of a
// process, so they are good after a restart and at another instance.
const (
	listCursor  = 'l' // sum of the query, last key
	watchCursor = 'w' // sum of the topic's id, offsets of the next changes by partition
)

var errCursor = &badRequest{"cursor", "it is none of this API: take it from the answer before, as it is"}

func encodeListCursor(query uint64, last string) string {
	b := binary.BigEndian.AppendUint64([]byte{listCursor}, query)
	return base64.RawURLEncoding.EncodeToString(append(b, last...))
}

// decodeListCursor answers the key after which to go on.
func decodeListCursor(cursor string, query uint64) (string, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) < 9 || b[0] != listCursor {
		return "", errCursor
	}
	if binary.BigEndian.Uint64(b[1:9]) != query {
		return "", &badRequest{"cursor", "it is of a query with another group or filter: give those of the page before"}
	}
	return string(b[9:]), nil
}

func topicSum(id string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(id))
	return h.Sum32()
}

func encodeWatchCursor(topicID string, next []int64) string {
	b := make([]byte, 0, 8+4*len(next))
	b = binary.BigEndian.AppendUint32(append(b, watchCursor), topicSum(topicID))
	b = binary.AppendUvarint(b, uint64(len(next)))
	for _, offset := range next {
		b = binary.AppendUvarint(b, uint64(offset))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeWatchCursor(cursor, topicID string, partitions int) ([]int64, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) < 6 || b[0] != watchCursor {
		return nil, errCursor
	}
	topic := binary.BigEndian.Uint32(b[1:5])
	b = b[5:]
	var numbers []uint64
	for len(b) > 0 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<62 || len(numbers) > 1<<16 {
			return nil, errCursor
		}
		numbers, b = append(numbers, v), b[n:]
	}
	if numbers[0] != uint64(len(numbers)-1) {
		return nil, errCursor
	}
	if topic != topicSum(topicID) || len(numbers)-1 != partitions {
		return nil, &badRequest{"cursor", "it is of another topic than the table has now, which was made anew: watch without it"}
	}
	next := make([]int64, partitions)
	for i := range next {
		next[i] = int64(numbers[i+1])
	}
	return next, nil
}
