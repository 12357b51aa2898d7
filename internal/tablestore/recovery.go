package tablestore

import "time"

// Recovered is closed when the store has caught up with the changelog.
func (s *Store) Recovered() <-chan struct{} { return s.recovered }

// IsRecovered reports whether Recovered is closed.
func (s *Store) IsRecovered() bool {
	select {
	case <-s.recovered:
		return true
	default:
		return false
	}
}

// Next is the offset of the first record of the changelog that the store may lack.
func (s *Store) Next() int64 { return s.next.Load() }

// Recovery is how many records of the changelog the store has read to recover, and how many are left; 0 when it is recovered.
// The changelog may have fewer, as its compaction leaves gaps.
func (s *Store) Recovery() (read, left int64) {
	if !s.IsRecovered() {
		left = max(0, s.end-s.next.Load())
	}
	return s.read.Load(), left
}

// Pace tells, for the log, how fast a recovery goes that has just read so many records in a time, and has so many left.
func Pace(read int64, in time.Duration, left int64) []any {
	perSecond := int64(float64(max(0, read)) / in.Seconds())
	attributes := []any{"records_per_second", perSecond}
	if perSecond > 0 {
		attributes = append(attributes, "time_left", (time.Duration(left/perSecond) * time.Second).String())
	}
	return attributes
}
