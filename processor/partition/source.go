package partition

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/wire"
)

// source is the position of a request in its request topic.
type source struct {
	topic     string
	partition int32
	offset    int64
	timestamp time.Time
}

func (s source) String() string { return fmt.Sprintf("%s/%d@%d", s.topic, s.partition, s.offset) }

// position names the record as paths do.
func (s source) position() string { return fmt.Sprintf("%s/%d/%d", s.topic, s.partition, s.offset) }

// LogValue is for logs in JSON, which would show the struct as an empty one.
func (s source) LogValue() slog.Value { return slog.StringValue(s.String()) }

func sourceOf(r wire.Record) source {
	return source{topic: r.Topic, partition: r.Partition, offset: r.Offset, timestamp: r.Timestamp}
}

// same reports whether both are the same record.
func (s source) same(other source) bool { return s.offset == other.offset && s.covers(other) }

// covers reports whether the other position is s, or before it in the same partition.
func (s source) covers(other source) bool {
	return s.topic == other.topic && s.partition == other.partition && other.offset <= s.offset
}

// dated reports whether it is known when the record was written: one without a timestamp has -1.
func (s source) dated() bool { return s.timestamp.UnixMilli() > 0 }

// age is how long ago the record was written; 0 where that is not known, and for one from the future.
func (s source) age(now time.Time) time.Duration {
	if !s.dated() {
		return 0
	}
	return max(0, now.Sub(s.timestamp))
}

// cause is why the record becomes a dead letter, without a call.
func (s source) cause(reason string) deadletter.Cause {
	return deadletter.Cause{Reason: reason, Topic: s.topic, Partition: s.partition, Offset: s.offset, Timestamp: s.timestamp}
}

func parseSource(text string) (source, error) {
	parts := strings.SplitN(text, "/", 4)
	if len(parts) != 4 || parts[3] == "" {
		return source{}, fmt.Errorf("%q is not partition/offset/timestamp/topic", text)
	}
	partition, err := strconv.ParseInt(parts[0], 10, 32)
	if err != nil {
		return source{}, err
	}
	offset, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return source{}, err
	}
	millis, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return source{}, err
	}
	return source{topic: parts[3], partition: int32(partition), offset: offset, timestamp: time.UnixMilli(millis)}, nil
}
