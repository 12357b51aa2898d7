package partition

import (
	"fmt"
	"testing"
	"time"
)

func TestAnsweredAttemptsAreRecognizedUntilTheirEnd(t *testing.T) {
	t.Parallel()
	const idle = time.Minute
	var r outlivedRequests
	id, now := attemptID{"topic", "correlation", ""}, time.Now()
	r.add(id, nil, now, idle)
	r.add(id, nil, now, idle)
	for range 3 { // each record counts as a sign of life
		now = now.Add(idle)
		if !r.takes(nil, id, false, now, idle) {
			t.Error("a later record is taken for another attempt")
		}
	}
	if r.takes(nil, attemptID{"topic", "correlation", "other"}, false, now, idle) {
		t.Error("a record of another attempt is taken")
	}
	if !r.takes(nil, id, true, now, idle) || r.takes(nil, id, false, now, idle) {
		t.Error("the attempt does not end with its null record")
	}
	// A writer that ends no request may use its correlation id again.
	r.add(id, nil, now, idle)
	if r.takes(nil, id, false, now.Add(idle+1), idle) || r.takes(nil, id, false, now, idle) {
		t.Error("the attempt is not forgotten")
	}
}

func TestAnsweredAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	var r outlivedRequests
	now := time.Now()
	for n := range 3 * maxOutlived {
		r.add(attemptID{"topic", fmt.Sprint(n), ""}, nil, now, time.Minute)
	}
	if len(r.ids) != maxOutlived || len(r.order) != maxOutlived {
		t.Errorf("%d attempts are remembered, want %d", len(r.ids), maxOutlived)
	}
	for n := range 3 * maxOutlived {
		if got, want := r.takes(nil, attemptID{"topic", fmt.Sprint(n), ""}, false, now, time.Minute), n >= 2*maxOutlived; got != want {
			t.Fatalf("attempt %d: %v, want %v", n, got, want)
		}
	}
}
