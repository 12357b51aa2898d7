package deadletter

import (
	"strconv"
	"time"

	"kafkagrpc/wire"
)

// The headers of a mark, a record without a value on the dead-letter topic.
const (
	replayedPartition = ours + "replayed.partition"
	replayedOffset    = ours + "replayed.offset"
	replayedTimestamp = ours + "replayed.timestamp" // Unix milliseconds
)

// The headers of a request that was edited before it was replayed, behind its own: the letter that it was, and when.
const (
	editedPrefix    = ours + "edited."
	editedTopic     = editedPrefix + "topic"
	editedPartition = editedPrefix + "partition"
	editedOffset    = editedPrefix + "offset"
	editedTimestamp = editedPrefix + "timestamp" // Unix milliseconds
)

// edited are the headers that mark what is sent in place of a letter.
func edited(l Letter, at time.Time) []wire.Header {
	return []wire.Header{
		{Name: editedTopic, Value: []byte(l.Topic)},
		{Name: editedPartition, Value: strconv.AppendInt(nil, int64(l.Partition), 10)},
		{Name: editedOffset, Value: strconv.AppendInt(nil, l.Offset, 10)},
		{Name: editedTimestamp, Value: strconv.AppendInt(nil, at.UnixMilli(), 10)},
	}
}

// Mark says that a letter was replayed.
type Mark struct {
	Letter Position
	At     time.Time // to the millisecond
}

// MarkOf is the mark of a letter, for the letter's topic. It has the letter's key, and so mostly lies behind it in the
// same partition: retention never removes it before the letter.
func MarkOf(l Letter, at time.Time) wire.Record {
	return wire.Record{Topic: l.Topic, Key: l.Key, Headers: []wire.Header{
		{Name: replayedPartition, Value: strconv.AppendInt(nil, int64(l.Partition), 10)},
		{Name: replayedOffset, Value: strconv.AppendInt(nil, l.Offset, 10)},
		{Name: replayedTimestamp, Value: strconv.AppendInt(nil, at.UnixMilli(), 10)},
	}}
}

// ParseMark reads a mark. Other records are none, also letters of records that had its headers.
func ParseMark(r wire.Record) (Mark, bool) {
	if r.Value != nil || len(r.Headers) != 3 {
		return Mark{}, false
	}
	var numbers [3]int64
	for i, name := range []string{replayedPartition, replayedOffset, replayedTimestamp} {
		n, err := strconv.ParseInt(string(r.Headers[i].Value), 10, 64)
		if err != nil || n < 0 || r.Headers[i].Name != name {
			return Mark{}, false
		}
		numbers[i] = n
	}
	return Mark{Letter: Position{Partition: int32(numbers[0]), Offset: numbers[1]}, At: time.UnixMilli(numbers[2])}, true
}
