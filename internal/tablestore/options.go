package tablestore

import (
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// All stores of the process share these.
var (
	blocks = opt.NewLRU(8 << 20) // bytes of tables, with their indexes and filters
	tables = opt.NewLRU(1000)    // open files
)

// A store has up to two write buffers under load. The stores of a table share writeBuffers, for one of the two each.
const (
	writeBuffers   = 4 << 20
	minWriteBuffer = 128 << 10
	maxWriteBuffer = 2 << 20
	// minTable keeps the files few. A compaction has that much in memory.
	minTable = 512 << 10
)

// options are LevelDB's for a store of a table with so many partitions. They are for what this table does: most keys that are asked for are not there
// (a filter spares the reading), and rows come in no order of their keys (each compaction into level 1 writes most of that anew,
// so it takes eight buffers at once, and level 1 is twice as large).
func options(partitions int) *opt.Options {
	buffer := min(max(writeBuffers/max(partitions, 1), minWriteBuffer), maxWriteBuffer)
	return &opt.Options{
		// By default a damaged part of the journal or of the manifest is skipped: its rows would be missing, and their
		// keys executed again.
		Strict: opt.DefaultStrict | opt.StrictJournal | opt.StrictManifest,

		BlockCacher:            blocks,
		OpenFilesCacher:        tables,
		WriteBuffer:            buffer,
		CompactionTableSize:    max(buffer, minTable),
		CompactionL0Trigger:    8,
		WriteL0SlowdownTrigger: 16,
		WriteL0PauseTrigger:    24,
		CompactionTotalSize:    16 * buffer,
		Compression:            opt.NoCompression,
		Filter:                 filter.NewBloomFilter(10),
	}
}
