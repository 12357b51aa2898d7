package deadletter

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// ours is how the names of all headers begin that this program adds to records of others.
const ours = "kafkagrpc."

// The headers that a letter carries behind the record's own, the reason first.
const (
	errorPrefix    = ours + "error."
	errorReason    = errorPrefix + "reason"
	errorCode      = errorPrefix + "code" // decimal gRPC status; optional
	errorTopic     = errorPrefix + "topic"
	errorPartition = errorPrefix + "partition"
	errorOffset    = errorPrefix + "offset"
	errorTimestamp = errorPrefix + "timestamp" // of the record, Unix milliseconds
	errorAttempts  = errorPrefix + "attempts"  // calls that were made; optional
	errorClass     = errorPrefix + "class"     // the reason as one of few, as the metric has it; none in letters of before 0.2
	errorPartial   = errorPrefix + "partial"   // 1: the record is the first message of a request that had or may have others; optional
	errorKey       = errorPrefix + "key"       // the idempotency key of a plain event; optional
)

// eventKey is the header of a replayed plain event, which has the key that it had before.
const eventKey = ours + "event.key"

// EventKey is the idempotency key that a plain event was replayed with; "": it was not replayed.
func EventKey(headers []wire.Header) string {
	for _, h := range headers {
		if h.Name == eventKey {
			return string(h.Value)
		}
	}
	return ""
}

// Cause is why a record became a letter, and where it was.
type Cause struct {
	Reason   string
	Class    string     // the reason as one of few words; "" where that is not told
	Code     codes.Code // that it was answered with; OK where it was not
	Attempts int        // calls that were made; 0 where that is not told
	Partial  bool       // the record is the first message of a stream, whose others are not kept
	Key      string     // of a plain event, its idempotency key as far as that is known; "" of a request

	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time // of the record, to the millisecond
}

// Headers are what the letter carries behind the record's own headers.
func (c Cause) Headers() []wire.Header {
	number := func(name string, n int64) wire.Header {
		return wire.Header{Name: name, Value: strconv.AppendInt(nil, n, 10)}
	}
	headers := []wire.Header{
		{Name: errorReason, Value: []byte(c.Reason)},
		{Name: errorTopic, Value: []byte(c.Topic)},
		number(errorPartition, int64(c.Partition)),
		number(errorOffset, c.Offset),
		number(errorTimestamp, c.Timestamp.UnixMilli()),
	}
	if c.Class != "" {
		headers = append(headers, wire.Header{Name: errorClass, Value: []byte(c.Class)})
	}
	if c.Code != codes.OK {
		headers = append(headers, number(errorCode, int64(c.Code)))
	}
	if c.Attempts > 0 {
		headers = append(headers, number(errorAttempts, int64(c.Attempts)))
	}
	if c.Partial {
		headers = append(headers, number(errorPartial, 1))
	}
	if c.Key != "" {
		headers = append(headers, wire.Header{Name: errorKey, Value: []byte(c.Key)})
	}
	return headers
}

// New is the letter of a record: key, value and headers as they were, and behind them why.
func New(r wire.Record, c Cause) wire.Record {
	return wire.Record{Key: r.Key, Value: r.Value, Headers: slices.Concat(r.Headers, c.Headers())}
}

// Letter is a record of a dead-letter topic.
type Letter struct {
	wire.Record               // as it is on the dead-letter topic
	Own         []wire.Header // those of Headers that the record came with
	Cause       Cause
	Replayed    time.Time // when it was last replayed; zero: never
}

// Parse reads a letter. Other records, such as marks, are none.
func Parse(r wire.Record) (Letter, bool) {
	// Own headers may have any name, also these: ours are the last ones, from the reason on.
	begin := -1
	for i, h := range slices.Backward(r.Headers) {
		if !strings.HasPrefix(h.Name, errorPrefix) {
			break
		}
		if h.Name == errorReason {
			begin = i
			break
		}
	}
	if begin < 0 {
		return Letter{}, false
	}
	l := Letter{Record: r, Own: r.Headers[:begin]}
	placed := 0
	for _, h := range r.Headers[begin:] {
		text := string(h.Value)
		n, err := strconv.ParseInt(text, 10, 64)
		switch h.Name {
		case errorReason:
			l.Cause.Reason = text
			continue
		case errorTopic:
			l.Cause.Topic = text
			continue
		case errorClass:
			l.Cause.Class = text
			continue
		case errorKey:
			l.Cause.Key = text
			continue
		}
		if err != nil || n < 0 {
			continue
		}
		switch h.Name {
		case errorPartition:
			l.Cause.Partition = int32(n)
			placed++
		case errorOffset:
			l.Cause.Offset = n
			placed++
		case errorTimestamp:
			l.Cause.Timestamp = time.UnixMilli(n)
		case errorCode:
			l.Cause.Code = codes.Code(n)
		case errorAttempts:
			l.Cause.Attempts = int(n)
		case errorPartial:
			l.Cause.Partial = n == 1
		}
	}
	return l, l.Cause.Topic != "" && placed == 2
}

// Position is where the letter is on the dead-letter topic.
func (l Letter) Position() Position { return Position{Partition: l.Partition, Offset: l.Offset} }

// Kept reports whether the record is in the letter. Of one that did not fit only the cause is kept.
func (l Letter) Kept() bool { return l.Key != nil || l.Value != nil || len(l.Own) > 0 }

// Request is what the record says of its call, as far as it can be read.
func (l Letter) Request(c wire.Contract) wire.Request {
	// A letter is often one because its headers are wrong; what could be read is returned all the same.
	request, _ := c.DecodeRequest(l.Own, l.Cause.Timestamp)
	if request.CorrelationID == "" {
		request.CorrelationID = l.Cause.Key // of a plain event
	}
	return request
}

// Again are the records that ask again: for the request topic, the letter's as it was. Its deadline is left out, as it
// has passed or soon will, and the caller who set it waits no more; so is its number, as it is a request by itself now. The
// message of a call that was made, or answered, is followed by its end, which is no letter of its own, and without which some
// calls do not begin.
func (l Letter) Again() []wire.Record {
	again := wire.Record{Topic: l.Cause.Topic, Key: l.Key, Value: l.Value}
	for _, h := range l.Own {
		if goesAgain(h) || strings.HasPrefix(h.Name, editedPrefix) {
			again.Headers = append(again.Headers, h)
		}
	}
	if l.Cause.Key != "" { // of a plain event, which is one record
		again.Headers = append(again.Headers, wire.Header{Name: eventKey, Value: []byte(l.Cause.Key)})
		return []wire.Record{again}
	}
	if l.Cause.Code == codes.OK && l.Cause.Attempts == 0 || l.Value == nil {
		return []wire.Record{again}
	}
	end := again
	end.Value = nil
	return []wire.Record{again, end}
}

// goesAgain reports whether a header of a record is in what asks again.
func goesAgain(h wire.Header) bool {
	deadline := h.Name == "grpc:deadline" || strings.EqualFold(h.Name, "meta:grpc-timeout")
	return !deadline && !wire.IsNumber(h) && !strings.HasPrefix(h.Name, ours)
}

// clone shares no memory with the records that were read with it.
func (l Letter) clone() Letter {
	headers := make([]wire.Header, len(l.Headers))
	for i, h := range l.Headers {
		headers[i] = wire.Header{Name: h.Name, Value: slices.Clone(h.Value)}
	}
	l.Key, l.Value, l.Headers, l.Own = slices.Clone(l.Key), slices.Clone(l.Value), headers, headers[:len(l.Own)]
	return l
}
