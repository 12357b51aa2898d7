package processor

import (
	"log/slog"
	"testing"
	"time"

	"kafkagrpc/internal/telemetry"
)

// The read of a row may wait for the disk, and a rebalance for the read: who asks for the state must not wait, too.
func TestStateDoesNotWaitForARebalance(t *testing.T) {
	t.Parallel()
	p := &Processor{config: Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Telemetry: telemetry.Off()}}
	p.reading.RLock() // as Row does
	assigned := make(chan struct{})
	go func() {
		p.assigned(nil)
		close(assigned)
	}()
	deadline := time.Now().Add(time.Minute)
	for p.reading.TryRLock() { // until the rebalance waits for its turn
		p.reading.RUnlock()
		if time.Now().After(deadline) {
			t.Fatal("the rebalance does not wait for the read")
		}
	}
	told := make(chan struct{})
	go func() {
		p.State()
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(time.Minute):
		t.Error("the state is not told")
	}
	p.reading.RUnlock()
	<-assigned
	<-told
}
