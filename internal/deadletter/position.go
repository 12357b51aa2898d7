package deadletter

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"kafkagrpc/internal/kafka"
)

// Position is the place of a record in a topic.
type Position struct {
	Partition int32
	Offset    int64
}

// String is PARTITION@OFFSET.
func (p Position) String() string { return fmt.Sprintf("%d@%d", p.Partition, p.Offset) }

// ParsePosition reads PARTITION@OFFSET.
func ParsePosition(text string) (Position, error) {
	partition, offset, ok := strings.Cut(text, "@")
	p, errPartition := strconv.ParseInt(partition, 10, 32)
	o, errOffset := strconv.ParseInt(offset, 10, 64)
	if !ok || errPartition != nil || errOffset != nil || p < 0 || o < 0 || o == math.MaxInt64 {
		return Position{}, fmt.Errorf("%q is not PARTITION@OFFSET, such as 0@12", text)
	}
	return Position{Partition: int32(p), Offset: o}, nil
}

// ParseRange reads PARTITION@FROM-TO; both ends belong to the range.
func ParseRange(text string) (kafka.Span, error) {
	wrong := fmt.Errorf("%q is not PARTITION@FROM-TO, such as 0@12-40", text)
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		return kafka.Span{}, wrong
	}
	from, err := ParsePosition(first)
	if err != nil {
		return kafka.Span{}, wrong
	}
	to, err := ParsePosition(fmt.Sprintf("%d@%s", from.Partition, last))
	if err != nil {
		return kafka.Span{}, wrong
	}
	if to.Offset < from.Offset {
		return kafka.Span{}, fmt.Errorf("range %q ends before it begins", text)
	}
	return kafka.Span{Partition: from.Partition, From: from.Offset, To: to.Offset + 1}, nil
}
