package processor

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// After a network cut the next processor starts when Kafka answers, and not when a back-off ends that the cut has made long.
func TestRestEndsWhenKafkaIsBack(t *testing.T) {
	t.Parallel()
	gone, fault := errors.New("no broker"), errors.New("the processor ended")
	tests := []struct {
		name   string
		silent int           // pings that are not answered
		wait   time.Duration // of the back-off
		back   bool
		takes  time.Duration
	}{
		{"Kafka was there throughout", 0, longestWait, false, longestWait},
		{"a short outage", 1, longestWait, true, pingInterval},
		{"a longer one than the wait", 20, firstWait, true, 20 * pingInterval},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Processor{config: Config{Log: slog.New(slog.DiscardHandler)}}
				begun, pings := time.Now(), 0
				back := p.rest(t.Context(), fault, test.wait, func(context.Context) error {
					if pings++; pings <= test.silent {
						return gone
					}
					if s := p.State(); !errors.Is(s.Err, fault) || errors.Is(s.Err, gone) != test.back {
						t.Errorf("the state says %v", s.Err)
					}
					return nil
				})
				if took := time.Since(begun); back != test.back || took != test.takes || pings != test.silent+1 {
					t.Errorf("%v after %s and %d pings, want %v after %s", back, took, pings, test.back, test.takes)
				}
			})
		})
	}
}

func TestRestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"Kafka answers": nil, "Kafka does not": errors.New("no broker")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Processor{config: Config{Log: slog.New(slog.DiscardHandler)}}
				ctx, cancel := context.WithTimeout(t.Context(), 10*pingInterval+1)
				defer cancel()
				if p.rest(ctx, errors.New("ended"), time.Hour, func(context.Context) error { return answer }) {
					t.Error("Kafka is not back")
				}
				if ctx.Err() == nil {
					t.Error("it ended before its context")
				}
			})
		})
	}
}
