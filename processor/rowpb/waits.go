package rowpb

import (
	"crypto/sha256"

	"google.golang.org/protobuf/encoding/protowire"
)

// Waits is what an encoded row waits for.
type Waits struct {
	Target  string // the service of the next attempt
	Next    int64  // when that is due, in Unix milliseconds
	Since   int64  // when the first attempt began, in Unix milliseconds
	Answers bool   // not for an attempt: there is a result, and requests that may not have it
	// The earliest deadline of its requests, in Unix milliseconds; 0: none.
	Deadline int64

	Line   string // the lane of its line; "": it stands in none
	Place  int64  // there
	Behind bool   // others are before it: no attempt is due
}

// Lane is the name of a line of requests for those who look for the rows in it. Lines with long keys have that of a hash.
func Lane(line string) string {
	if len(line) > 1<<10 {
		sum := sha256.Sum256([]byte(line))
		line = "\x00" + string(sum[:])
	}
	return LanesOfLines + line
}

// LanesOfLines is how all of them begin.
const LanesOfLines = "line\x00"

const (
	stateField    protowire.Number = 2
	targetField   protowire.Number = 14
	startedField  protowire.Number = 15
	waitingField  protowire.Number = 24
	nextField     protowire.Number = 2 // of Waiting
	deadlineField protowire.Number = 8
	inLineField   protowire.Number = 9
	lineField     protowire.Number = 10
	placeField    protowire.Number = 11
	behindField   protowire.Number = 12
)

// WaitsOf reads only what an encoded row waits for; ok is false where it waits for nothing, or cannot be read.
func WaitsOf(row []byte) (w Waits, ok bool) {
	var state uint64
	var waiting []byte
	good := eachField(row, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case stateField:
			state = number
		case targetField:
			w.Target = string(bytes)
		case startedField:
			w.Since = int64(number)
		case waitingField:
			waiting, ok = bytes, true
		}
	})
	if !good || !ok {
		return Waits{}, false
	}
	w.Answers = State(state) != State_STATE_WAITING
	inLine, line := false, []byte(nil)
	good = eachField(waiting, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case nextField:
			w.Next = int64(number)
		case deadlineField:
			w.Deadline = int64(number)
		case inLineField:
			inLine = number != 0
		case lineField:
			line = bytes
		case placeField:
			w.Place = int64(number)
		case behindField:
			w.Behind = number != 0
		}
	})
	if inLine && !w.Answers {
		w.Line = Lane(string(line))
	}
	return w, good
}

// eachField visits the fields of an encoded message that are numbers or bytes. It reports whether it could be read.
func eachField(message []byte, visit func(field protowire.Number, number uint64, bytes []byte)) bool {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return false
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(field, kind, message); n < 0 {
			return false
		}
		switch kind {
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(message)
			visit(field, v, nil)
		case protowire.BytesType:
			v, _ := protowire.ConsumeBytes(message)
			visit(field, 0, v)
		}
		message = message[n:]
	}
	return true
}
