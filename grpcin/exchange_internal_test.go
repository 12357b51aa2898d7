package grpcin

import (
	"context"
	"testing"
	"time"
)

func TestWhoLeavesBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		deadline time.Duration // from now on; 0: none
		want     bool
	}{
		"without a deadline":       {0, true},
		"long before it":           {time.Hour, true},
		"when it is about to pass": {20 * time.Millisecond, false},
		"behind it":                {-time.Minute, false},
	} {
		ctx := t.Context()
		if test.deadline != 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, test.deadline)
			defer cancel()
		}
		if got := leaves(ctx); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
