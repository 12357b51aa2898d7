package wire

// Pin keeps the records that are sent with it in the partition of the first one, also when the topic gets more partitions:
// it is for records of one key and topic whose order must hold. The zero value is ready. It belongs to whoever sends the records, and
// is not safe for concurrent use.
type Pin struct {
	set       bool
	partition int32
}

// PinTo is a pin that is set already. As long as its topic has that partition, the records of several goroutines may share it.
func PinTo(partition int32) *Pin { return &Pin{set: true, partition: partition} }

// Partition is where the records are that were acknowledged; -1 where there is none, or no pin.
func (p *Pin) Partition() int32 {
	if p == nil || !p.set {
		return -1
	}
	return p.partition
}

// Place is the partition of a record with a key, among so many. The first one sets the pin, where there is one; and so does
// one that finds fewer partitions than there were, as the topic was made anew then.
func (p *Pin) Place(key []byte, partitions int32) int32 {
	if p == nil {
		return Partition(key, partitions)
	}
	if !p.set || p.partition >= partitions {
		p.set, p.partition = true, Partition(key, partitions)
	}
	return p.partition
}
