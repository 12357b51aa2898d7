// Package tablestore keeps the local copy of a table's partitions in LevelDB, and large rows in segments beside it: for the processor that owns them, for its
// standby copies, and for views. Rows are written behind: they are seen at once, and reach the disk a little later, never after the
// offset of the changelog that they belong to. Some are found by marks beside their keys. Where rows are written in transactions, those that
// are not committed are held back from all but the owner of their partition (Held).
//
// It knows nothing of what a row means: keys and rows are bytes to it.
package tablestore
