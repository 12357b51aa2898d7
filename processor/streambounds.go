package processor

import (
	"sync/atomic"

	"kafkagrpc/topology"
)

// Streams whose requests go on need further records to be read, which stops at the bounds of what is in flight. So at most
// half of these bounds is theirs: otherwise they would wait for each other.

// openStreams are those of one partition. Its goroutine changes them; any reads them.
type openStreams struct {
	streams atomic.Int64
	bytes   atomic.Int64 // of their first records
}

func (o *openStreams) add(a *attempt) {
	o.streams.Add(1)
	o.bytes.Add(a.size())
}

func (o *openStreams) remove(a *attempt) {
	o.streams.Add(-1)
	o.bytes.Add(-a.size())
}

func (a *attempt) size() int64 { return int64(len(a.record.Key) + len(a.record.Value)) }

// roomFor reports whether another stream may be open. A partition without any has room for one.
func (p *Processor) roomFor(part *partition, a *attempt) bool {
	bounds := p.remote.Processing
	streams, bytes := part.openStreams.streams.Load(), part.openStreams.bytes.Load()
	if streams == 0 {
		return true
	}
	if streams >= half(bounds.MaxInFlight, topology.DefaultMaxInFlight) ||
		bytes+a.size() > half(bounds.MaxInFlightBytes, topology.DefaultMaxInFlightBytes) {
		return false
	}
	streams, bytes = 0, 0
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, other := range p.parts {
		streams += other.openStreams.streams.Load()
		bytes += other.openStreams.bytes.Load()
	}
	return streams < half(bounds.MaxInFlightTotal, topology.DefaultMaxInFlightTotal) &&
		bytes+a.size() <= half(bounds.MaxInFlightTotalBytes, topology.DefaultMaxInFlightTotalBytes)
}

func half(bound, fallback int) int64 {
	if bound <= 0 {
		bound = fallback
	}
	return int64(max(1, bound/2))
}

// keptReplies bounds what all streams of the process keep of their replies for the table.
type keptReplies struct {
	limit int64
	bytes atomic.Int64
}

func (k *keptReplies) take(bytes int) bool {
	if k.bytes.Add(int64(bytes)) <= k.limit {
		return true
	}
	k.bytes.Add(-int64(bytes))
	return false
}

// give drops what is kept of a reply, nil for none.
func (k *keptReplies) give(s *streamed) {
	if s == nil {
		return
	}
	k.bytes.Add(-int64(s.kept))
	s.kept, s.messages = 0, nil
}
