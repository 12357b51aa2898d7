package consumergroup

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

// Kafka keeps one offset per partition and a short text with it. Behind one slow record many others may be finished; the
// text says which, so that after a crash they are not handled, and answered, once more.
//
// It is progressVersion and base64 of: the offset that follows the finished prefix, then the lengths of alternating
// runs of unfinished and finished offsets from there, each as a varint; then a checksum, because a record that is skipped
// by mistake is lost. The offset is in it so that it stays true, if less complete, with a later commit. A finished run of no length
// marks the record at its place as resting. The text that has one begins otherwise, so that an earlier version, which would handle that
// record without those that follow it, handles everything again.
//
// A text of the third kind has room for any pattern, of maxSpan offsets at most: after the offset comes a digit for each one from there on, which is unfinished,
// finished or resting, and five of them are a byte. It is used with Options.Transactions alone, where what is left out would be
// answered twice, and only where the lengths of the runs do not fit.
const (
	progressVersion = "finished/1:"
	restingVersion  = "finished/2:" // as long
	digitsVersion   = "finished/3:" // as long; it is in the checksum
	maxProgress     = 4096          // characters; Kafka's default of offset.metadata.max.bytes

	maxPayload = (maxProgress-len(progressVersion))*6/8 - crc32.Size // bytes in base64

	maxOffsetBytes = 9                                               // of a varint below syntheticOffsets
	digitsInByte   = 5                                               // 3^5 is 243
	maxSpan        = int64(maxPayload-maxOffsetBytes) * digitsInByte // 15,250 offsets
)

// What a digit says of an offset; 0: it is not finished.
const (
	digitFinished = 1
	digitResting  = 2
)

// powers are the values of the digits of a byte.
var powers = [digitsInByte]byte{1, 3, 9, 27, 81}

// run is a range of finished offsets, without its end; an empty one is an offset that rests.
type run struct{ from, to int64 }

// encodeProgress is the text for ascending runs above base, "" for none. Of too many the farthest are left out.
func encodeProgress(base int64, runs []run) string {
	text, _ := encodeRuns(base, runs)
	return text
}

// encodeAll is a text for ascending runs above base that leaves none out, "" for none. They must fit: end no more than maxSpan above base, or be those of
// an earlier text, as of earlier sessions without Options.Transactions.
func encodeAll(base int64, runs []run) string {
	text, all := encodeRuns(base, runs)
	if all || lastOf(runs)-base >= maxSpan {
		return text
	}
	return encodeDigits(base, runs)
}

// encodeRuns writes the lengths of runs, and reports whether all of them fit.
func encodeRuns(base int64, runs []run) (_ string, all bool) {
	b := binary.AppendUvarint(nil, uint64(base))
	at, empty := base, true
	all = true
	version := progressVersion
	for _, r := range runs {
		n := len(b)
		b = binary.AppendUvarint(b, uint64(r.from-at))
		b = binary.AppendUvarint(b, uint64(r.to-r.from))
		if len(b) > maxPayload {
			b, all = b[:n], false
			break
		}
		at, empty = r.to, false
		if r.from == r.to {
			version = restingVersion
		}
	}
	if empty {
		return "", all
	}
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return version + base64.RawStdEncoding.EncodeToString(b), all
}

// encodeDigits writes a digit for each offset, of a span of maxSpan at most.
func encodeDigits(base int64, runs []run) string {
	b := binary.AppendUvarint(nil, uint64(base))
	digits := make([]byte, (lastOf(runs)-base)/digitsInByte+1)
	set := func(offset int64, digit byte) {
		i := offset - base
		digits[i/digitsInByte] += digit * powers[i%digitsInByte]
	}
	for _, r := range runs {
		if r.from == r.to {
			set(r.from, digitResting)
		}
		for offset := r.from; offset < r.to; offset++ {
			set(offset, digitFinished)
		}
	}
	b = append(b, digits...)
	b = binary.BigEndian.AppendUint32(b, digitsSum(b))
	return digitsVersion + base64.RawStdEncoding.EncodeToString(b)
}

// digitsSum is the checksum of a text of digits, which is none of a text of runs.
func digitsSum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte(digitsVersion)), crc32.IEEETable, b)
}

// lastOf is the last offset of which ascending runs tell something; -1: of none.
func lastOf(runs []run) int64 {
	if len(runs) == 0 {
		return -1
	}
	r := runs[len(runs)-1]
	return max(r.from, r.to-1)
}

// decodeProgress undoes encodeProgress and encodeAll.
func decodeProgress(text string) ([]run, error) {
	if text == "" {
		return nil, nil
	}
	sum, decode := crc32.ChecksumIEEE, decodeRuns
	encoded, ok := strings.CutPrefix(text, progressVersion)
	if !ok {
		encoded, ok = strings.CutPrefix(text, restingVersion)
	}
	if !ok {
		sum, decode = digitsSum, decodeDigits
		encoded, ok = strings.CutPrefix(text, digitsVersion)
	}
	if !ok {
		return nil, fmt.Errorf("it begins with none of %q, %q and %q", progressVersion, restingVersion, digitsVersion)
	}
	b, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	n := len(b) - crc32.Size
	if n < 0 || sum(b[:n]) != binary.BigEndian.Uint32(b[n:]) {
		return nil, errors.New("the checksum does not match")
	}
	return decode(b[:n])
}

// decodeDigits undoes encodeDigits.
func decodeDigits(b []byte) (runs []run, _ error) {
	base, n := binary.Uvarint(b)
	if n <= 0 || base > uint64(syntheticOffsets) {
		return nil, errors.New("its offset is malformed")
	}
	at := int64(base)
	inside := false // a finished run
	for _, digits := range b[n:] {
		if digits >= powers[digitsInByte-1]*3 || at > syntheticOffsets-digitsInByte {
			return nil, errors.New("its digits are malformed")
		}
		for range digitsInByte {
			switch digits % 3 {
			case digitFinished:
				if !inside {
					runs = append(runs, run{at, at})
				}
				runs[len(runs)-1].to, inside = at+1, true
			case digitResting:
				runs, inside = append(runs, run{at, at}), false
			default:
				inside = false
			}
			digits /= 3
			at++
		}
	}
	return runs, nil
}

// decodeRuns undoes encodeRuns.
func decodeRuns(b []byte) ([]run, error) {
	var at uint64
	next := func() bool {
		v, n := binary.Uvarint(b)
		if n <= 0 || at+v > uint64(syntheticOffsets) || at+v < at {
			return false
		}
		at, b = at+v, b[n:]
		return true
	}
	malformed := errors.New("its lengths are malformed")
	if !next() {
		return nil, malformed
	}
	var runs []run
	for len(b) > 0 {
		if !next() {
			return nil, malformed
		}
		from := at
		if !next() {
			return nil, malformed
		}
		runs = append(runs, run{int64(from), int64(at)})
	}
	return runs, nil
}

// contains reports whether one of ascending runs has the offset.
func contains(runs []run, offset int64) bool {
	i, found := slices.BinarySearchFunc(runs, offset, func(r run, offset int64) int {
		switch {
		case r.to <= offset:
			return -1
		case r.from > offset:
			return 1
		}
		return 0
	})
	return found && runs[i].from <= offset
}

// rested reports whether one of ascending runs marks the offset as resting.
func rested(runs []run, offset int64) bool {
	i, found := slices.BinarySearchFunc(runs, offset, func(r run, offset int64) int {
		if r.from == r.to {
			return cmp.Compare(r.from, offset)
		}
		if r.to <= offset {
			return -1
		}
		return 1
	})
	return found && runs[i].from == runs[i].to
}
