package tablestore

import (
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// tables are the open files of all stores of the process.
var tables = opt.NewLRU(1000)

// A store has up to two write buffers under load. The stores of a table share writeBuffers, for one of the two each.
const (
	writeBuffers   = 8 << 20
	minWriteBuffer = 128 << 10
	maxWriteBuffer = 4 << 20
	// minTable keeps the files few.
	minTable = 1 << 20
)

// options are LevelDB's for a store of a table with so many partitions. They are for what this table does: most keys that are asked for are not there
// (a filter spares the reading), and they come in no order, so that each compaction writes most of a level anew: it takes
// eight buffers at once, and level 1 is so large that there is hardly more than one below it.
//
// Without a cache of blocks, a file that is open has its index and its filter at hand, some 1.3 bytes a row. A cache would have to be asked for both, at each file; the blocks
// in it are those of keys that the filter took for others, which nobody asks for again, and they would drive the filters out. Blocks are large, so that the indexes stay small.
func options(partitions int) *opt.Options {
	buffer := min(max(writeBuffers/max(partitions, 1), minWriteBuffer), maxWriteBuffer)
	return &opt.Options{
		// By default a damaged part of the journal or of the manifest is skipped: its rows would be missing, and their
		// keys executed again.
		Strict: opt.DefaultStrict | opt.StrictJournal | opt.StrictManifest,

		DisableBlockCache:      true,
		OpenFilesCacher:        tables,
		WriteBuffer:            buffer,
		CompactionTableSize:    max(2*buffer, minTable),
		CompactionL0Trigger:    8,
		WriteL0SlowdownTrigger: 16,
		WriteL0PauseTrigger:    24,
		CompactionTotalSize:    64 * buffer,
		BlockSize:              32 << 10,
		Compression:            opt.NoCompression,
		Filter:                 filter.NewBloomFilter(10),
	}
}
