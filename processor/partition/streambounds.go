package partition

import (
	"sync/atomic"

	"kafkagrpc/topology"
)

// Streams whose requests go on need further records to be read, which stops at the bounds of what is in flight. So at most
// half of these bounds is theirs: otherwise they would wait for each other.

// openStreams counts the streams whose request is open. Safe for concurrent use.
type openStreams struct {
	count atomic.Int64
	bytes atomic.Int64 // of their first records
}

func (o *openStreams) add(a *attempt) {
	o.count.Add(1)
	o.bytes.Add(a.size())
}

func (o *openStreams) remove(a *attempt) {
	o.count.Add(-1)
	o.bytes.Add(-a.size())
}

// subtract takes those off that other counts.
func (o *openStreams) subtract(other *openStreams) {
	o.count.Add(-other.count.Load())
	o.bytes.Add(-other.bytes.Load())
}

func (a *attempt) size() int64 { return int64(len(a.record.Key) + len(a.record.Value)) }

// roomFor reports whether another stream may be open. A partition without any has room for one.
func (p *Partition) roomFor(a *attempt) bool {
	fits := func(o *openStreams, streams, bytes int64) bool {
		return o.count.Load() < streams && o.bytes.Load()+a.size() <= bytes
	}
	bounds := p.rules.Load().remote.Processing
	return p.streams.count.Load() == 0 ||
		fits(&p.streams, half(bounds.MaxInFlight, topology.DefaultMaxInFlight), half(bounds.MaxInFlightBytes, topology.DefaultMaxInFlightBytes)) &&
			fits(&p.allStreams, half(bounds.MaxInFlightTotal, topology.DefaultMaxInFlightTotal), half(bounds.MaxInFlightTotalBytes, topology.DefaultMaxInFlightTotalBytes))
}

func half(bound, fallback int) int64 {
	if bound <= 0 {
		bound = fallback
	}
	return int64(max(1, bound/2))
}
