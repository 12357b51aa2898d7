// Package tablestore keeps the local copy of a table's partitions in LevelDB: for the processor that owns them, for its
// standby copies, and for views.
//
// It knows nothing of what a row means: keys and rows are bytes to it.
package tablestore
