// Package rowpb is the protobuf form of the state table's rows, shared by the processor that writes them and the
// views that read them.
package rowpb

//go:generate go run ../../internal/genproto row.proto
