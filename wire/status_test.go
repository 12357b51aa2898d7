package wire_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

func TestStatuses(t *testing.T) {
	t.Parallel()
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		name := wire.StatusName(c)
		// The library writes NotFound, and Canceled with one l.
		if plain := strings.ReplaceAll(name, "_", ""); !strings.EqualFold(plain, c.String()) && c != codes.Canceled {
			t.Errorf("status %d is called %s", c, name)
		}
		for _, spelled := range []string{name, strings.ToLower(name), strings.ReplaceAll(strings.ToLower(name), "_", "-")} {
			if got, ok := wire.StatusOf(spelled); !ok || got != c {
				t.Errorf("%s is status %v, %v; want %v", spelled, got, ok, c)
			}
		}
	}
	if n := len(wire.StatusNames); n != int(codes.Unauthenticated)+1 {
		t.Errorf("%d names", n)
	}
	if name := wire.StatusName(codes.Canceled); name != "CANCELLED" {
		t.Errorf("the name of CANCELLED is %s", name)
	}
	if got, ok := wire.StatusOf("canceled"); !ok || got != codes.Canceled {
		t.Errorf("canceled is %v, %v", got, ok)
	}
	for _, c := range []codes.Code{17, 1 << 31, 1<<32 - 1} {
		if name := wire.StatusName(c); strings.Trim(name, "0123456789") != "" {
			t.Errorf("status %d is called %s", c, name)
		}
	}
	if got, ok := wire.StatusOf("FINE"); ok {
		t.Errorf("FINE is %v", got)
	}
}
