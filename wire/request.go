package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxCall is the longest grpc:call, in bytes.
const maxCall = 64

// Request is what the headers of a request record say. The record's value is the message, or null for the end.
type Request struct {
	Service       string // "package.Service"
	Method        string // the bare name
	ReplyTo       string // reply topic; "" for a one-way call
	CorrelationID string
	Call          string    // id of this attempt, printable ASCII, at most 64 bytes; "" where the producer knows none
	Deadline      time.Time // to the millisecond; zero: none
	Canceled      bool      // the caller gave up; on the null record only
	Number        Number
	Trace         Trace
	Metadata      Metadata
	LeftOut       LeftOut // of Metadata, by the decoder
}

// FullMethod is "package.Service/Method".
func (r Request) FullMethod() string {
	var name [maxInterned]byte
	return intern(append(append(append(name[:0], r.Service...), '/'), r.Method...))
}

// Marks reports whether any header is one of the four that make a record one of a request.
func (c Contract) Marks(headers []Header) bool {
	for _, h := range headers {
		switch h.Name {
		case c.Service, c.Method, c.ReplyTo, c.CorrelationID:
			return true
		}
	}
	return false
}

// EncodeRequest writes the headers of one record of a call: the overrides as they are, the contract's four
// where there is a reply topic, the metadata, then our own where they are set. Reserved metadata is left out, and what no
// HTTP/2 connection carries, which can come from none.
func (c Contract) EncodeRequest(r Request, overrides []Header) []Header {
	e := newEncoder(len(overrides)+8, len(r.Service)+len(r.Method)+len(r.ReplyTo)+len(r.CorrelationID), r.Trace, r.Metadata, nil)
	e.headers = append(e.headers, overrides...)
	if r.ReplyTo != "" {
		e.text(c.Service, r.Service)
		e.text(c.Method, r.Method)
		e.text(c.ReplyTo, r.ReplyTo)
		e.text(c.CorrelationID, r.CorrelationID)
	}
	e.metadata(&c, metadataPrefix, r.Metadata)
	e.known(callHeader, r.Call)
	if !r.Deadline.IsZero() {
		e.integer(deadlineHeader, max(r.Deadline.UnixMilli(), 0))
	}
	if r.Canceled {
		e.text(canceledHeader, "1")
	}
	return e.last(r.Trace, r.Number)
}

// DecodeRequest reads the headers of a request record that has this timestamp. The deadline is grpc:deadline,
// else grpc-timeout metadata counted from the timestamp. Unknown headers and reserved metadata are dropped; of a
// contract header that repeats, the last counts, so that an override cannot replace it. Metadata that cannot be carried
// is left out and counted, but for the idempotency key: without it the request would be another one.
//
// With an error the request holds all that could be read: enough to answer the caller. The error names each
// header that is wrong.
func (c Contract) DecodeRequest(headers []Header, timestamp time.Time) (Request, error) {
	var r Request
	var problems []error
	var timeout string
	for i, h := range headers {
		switch h.Name {
		case c.Service:
			r.Service = intern(h.Value)
		case c.Method:
			r.Method = intern(h.Value)
		case c.ReplyTo:
			r.ReplyTo = intern(h.Value)
		case c.CorrelationID:
			r.CorrelationID = string(h.Value)
		case callHeader:
			call, err := decodeCall(h.Value)
			r.Call, problems = call, appendError(problems, err)
		case deadlineHeader:
			deadline, err := decodeDeadline(h.Value)
			r.Deadline, problems = deadline, appendError(problems, err)
		case canceledHeader:
			r.Canceled = string(h.Value) == "1"
		case numberHeader:
			number, err := decodeNumber(h.Value)
			r.Number, problems = number, appendError(problems, err)
		case traceParentHeader:
			r.Trace.Parent = string(h.Value)
		case traceStateHeader:
			r.Trace.State = string(h.Value)
		case baggageHeader:
			r.Trace.Baggage = string(h.Value)
		case metadataPrefix + "grpc-timeout":
			timeout = string(h.Value)
		default:
			if strings.HasPrefix(h.Name, metadataPrefix) {
				left := &r.LeftOut
				var key LeftOut
				if strings.EqualFold(h.Name[len(metadataPrefix):], c.IdempotencyMetadata) {
					left = &key
				}
				r.Metadata = c.appendField(r.Metadata, left, metadataPrefix, headers[i:])
				if key.Count > 0 {
					problems = append(problems, errors.New(key.First))
				}
			}
		}
	}
	if timeout != "" && r.Deadline.IsZero() && !timestamp.IsZero() {
		d, err := decodeTimeout(timeout)
		if err == nil {
			r.Deadline = timestamp.Add(d)
		}
		problems = appendError(problems, err)
	}
	return r, errors.Join(problems...)
}

func appendError(problems []error, err error) []error {
	if err == nil {
		return problems
	}
	return append(problems, err)
}

func decodeCall(value []byte) (string, error) {
	call := string(value)
	if len(call) > maxCall {
		return "", fmt.Errorf("header %q: %d bytes; at most %d are allowed", callHeader, len(call), maxCall)
	}
	if !printable(call) {
		return "", fmt.Errorf("header %q: the value is not printable ASCII", callHeader)
	}
	return call, nil
}

func decodeDeadline(value []byte) (time.Time, error) {
	ms, err := strconv.ParseUint(string(value), 10, 63)
	if err != nil {
		return time.Time{}, fmt.Errorf("header %q: %q is not a time in Unix milliseconds", deadlineHeader, clip(value))
	}
	return time.UnixMilli(int64(ms)), nil
}

// decodeTimeout reads a grpc-timeout: at most 8 digits and a unit. What no Duration can hold becomes the
// longest one.
func decodeTimeout(s string) (time.Duration, error) {
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': 1,
	}
	unit, known := units[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 63)
	if !known || err != nil || len(s) > 9 {
		return 0, fmt.Errorf("header %q: %q is not a gRPC timeout such as 500m or 10S", metadataPrefix+"grpc-timeout", clip([]byte(s)))
	}
	if time.Duration(n) > math.MaxInt64/unit {
		return math.MaxInt64, nil
	}
	return time.Duration(n) * unit, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// clip keeps what a stranger wrote short enough for an error message.
func clip(value []byte) []byte { return value[:min(len(value), 32)] }
