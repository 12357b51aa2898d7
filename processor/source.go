package processor

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"kafkagrpc/wire"
)

// What a record on the loop topic was before: its key, null or not, and then its position: partition/offset/timestamp/topic.
const (
	headerKey    = "kafkagrpc.key"
	headerSource = "kafkagrpc.source"
)

// source is the position of a request in its request topic.
type source struct {
	topic     string
	partition int32
	offset    int64
	timestamp time.Time
}

func (s source) String() string { return fmt.Sprintf("%s/%d@%d", s.topic, s.partition, s.offset) }

// LogValue is for logs in JSON, which would show the struct as an empty one.
func (s source) LogValue() slog.Value { return slog.StringValue(s.String()) }

// same reports whether both are the same record.
func (s source) same(other source) bool { return s.offset == other.offset && s.covers(other) }

// covers reports whether the other position is s, or before it in the same partition.
func (s source) covers(other source) bool {
	return s.topic == other.topic && s.partition == other.partition && other.offset <= s.offset
}

// looped is the record for the loop topic: as it was, under its table key, with its own key and position in headers behind
// its own.
func looped(r wire.Record, key string, s source) wire.Record {
	headers := make([]wire.Header, 0, len(r.Headers)+2)
	headers = append(headers, r.Headers...)
	headers = append(headers, wire.Header{Name: headerKey, Value: r.Key})
	position := fmt.Sprintf("%d/%d/%d/%s", s.partition, s.offset, s.timestamp.UnixMilli(), s.topic)
	headers = append(headers, wire.Header{Name: headerSource, Value: []byte(position)})
	return wire.Record{Key: []byte(key), Value: r.Value, Headers: headers}
}

// unlooped undoes looped.
func unlooped(r wire.Record) (wire.Record, source, error) {
	if n := len(r.Headers) - 1; n >= 0 && r.Headers[n].Name == headerSource {
		if s, err := parseSource(string(r.Headers[n].Value)); err == nil {
			r.Headers, r.Timestamp = r.Headers[:n], s.timestamp
			if n--; n >= 0 && r.Headers[n].Name == headerKey { // earlier versions wrote none
				r.Key, r.Headers = r.Headers[n].Value, r.Headers[:n]
			}
			return r, s, nil
		}
	}
	at := source{topic: r.Topic, partition: r.Partition, offset: r.Offset, timestamp: r.Timestamp}
	return r, at, fmt.Errorf("no readable %s header at the end: it was not written by this program", headerSource)
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

// dated reports whether it is known when the record was written: one without a timestamp has -1.
func (s source) dated() bool { return s.timestamp.UnixMilli() > 0 }
