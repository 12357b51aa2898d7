package wire

import (
	"cmp"
	"fmt"
	"strconv"
)

// Number is the place of a message among those of its side of a call, from 0 on. On the null record behind them it is how many
// they are. A crash may have records written again: by the numbers a reader takes each message once, and notices one that is
// missing. The zero value is none, as for records of other programs.
type Number uint64 // one more than what the header says

// Nth is the number n.
func Nth(n int) Number { return Number(n) + 1 }

// Get is the number; false: there is none.
func (n Number) Get() (int, bool) { return int(n) - 1, n > 0 }

// After compares a record with how many messages of its call came before it: 0 for the one that follows, below 0 for one that has
// come already, above 0 for one with something missing before it. A record without a number follows.
func (n Number) After(have int) int {
	if n == 0 {
		return 0
	}
	return cmp.Compare(int(n)-1, have)
}

// Numbered is the headers of one of several records that differ in their number only. They share no memory that is written.
func Numbered(headers []Header, n Number) []Header {
	headers = append(make([]Header, 0, len(headers)+1), headers...)
	if n == 0 {
		return headers
	}
	return append(headers, Header{numberHeader, strconv.AppendUint(nil, uint64(n)-1, 10)})
}

// IsNumber reports whether a header is the number of its record.
func IsNumber(h Header) bool { return h.Name == numberHeader }

// NumberOf reads only the number of a record, for readers that skip most of the rest. What cannot be read is none.
func NumberOf(headers []Header) Number {
	for i := len(headers) - 1; i >= 0; i-- { // the last counts, and is where we write it
		if IsNumber(headers[i]) {
			n, _ := decodeNumber(headers[i].Value)
			return n
		}
	}
	return 0
}

func decodeNumber(value []byte) (Number, error) {
	n, err := strconv.ParseUint(string(value), 10, 62)
	if err != nil {
		return 0, fmt.Errorf("header %q: %q is not the number of a message", numberHeader, clip(value))
	}
	return Number(n) + 1, nil
}
