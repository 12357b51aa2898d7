package grpcout

import (
	"testing"

	"google.golang.org/grpc/metadata"
)

// Metadata that can go as it is goes without a copy.
func TestMetadataOfACallTakesLittleMemory(t *testing.T) {
	md := metadata.Pairs("idempotency-key", "k1", "x-tenant", "western")
	if n := testing.AllocsPerRun(100, func() { outgoing(t.Context(), md) }); n > 2 { // what grpc-go makes of it, and the context
		t.Errorf("%v allocations", n)
	}
}
