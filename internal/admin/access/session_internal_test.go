package access

import (
	"testing"
	"time"
)

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	g := Guard{Token: "0123456789abcdef"}
	ends := time.Now().Add(time.Hour)
	cookie := g.sign(ends.Unix())
	if !g.session(cookie, ends.Add(-time.Second)) {
		t.Error("it has ended too early")
	}
	if g.session(cookie, ends) {
		t.Error("it has not ended")
	}
}
