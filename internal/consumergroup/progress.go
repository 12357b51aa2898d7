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
const (
	progressVersion = "finished/1:"
	restingVersion  = "finished/2:" // as long
	maxProgress     = 4096          // characters; Kafka's default of offset.metadata.max.bytes
)

// run is a range of finished offsets, without its end; an empty one is an offset that rests.
type run struct{ from, to int64 }

// encodeProgress is the text for ascending runs above base, "" for none. Of too many the farthest are left out.
func encodeProgress(base int64, runs []run) string {
	most := base64.RawStdEncoding.DecodedLen(maxProgress-len(progressVersion)) - crc32.Size
	b := binary.AppendUvarint(nil, uint64(base))
	at, empty := base, true
	version := progressVersion
	for _, r := range runs {
		n := len(b)
		b = binary.AppendUvarint(b, uint64(r.from-at))
		b = binary.AppendUvarint(b, uint64(r.to-r.from))
		if len(b) > most {
			b = b[:n]
			break
		}
		at, empty = r.to, false
		if r.from == r.to {
			version = restingVersion
		}
	}
	if empty {
		return ""
	}
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return version + base64.RawStdEncoding.EncodeToString(b)
}

// decodeProgress undoes encodeProgress.
func decodeProgress(text string) ([]run, error) {
	if text == "" {
		return nil, nil
	}
	encoded, ok := strings.CutPrefix(text, progressVersion)
	if !ok {
		encoded, ok = strings.CutPrefix(text, restingVersion)
	}
	if !ok {
		return nil, fmt.Errorf("it begins with neither %q nor %q", progressVersion, restingVersion)
	}
	b, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	n := len(b) - crc32.Size
	if n < 0 || crc32.ChecksumIEEE(b[:n]) != binary.BigEndian.Uint32(b[n:]) {
		return nil, errors.New("the checksum does not match")
	}
	b = b[:n]
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
