package loglimit_test

import (
	"testing"
	"time"

	"kafkagrpc/internal/loglimit"
)

func TestLimit(t *testing.T) {
	t.Parallel()
	l := loglimit.New(time.Minute)
	at := time.Unix(0, 0)
	if more, ok := l.Allow(at); !ok || more != 0 {
		t.Errorf("the first: %d, %t", more, ok)
	}
	for range 3 {
		if _, ok := l.Allow(at.Add(time.Second)); ok {
			t.Error("within the interval")
		}
	}
	if more, ok := l.Allow(at.Add(time.Minute)); !ok || more != 3 {
		t.Errorf("after the interval: %d, %t", more, ok)
	}
}
