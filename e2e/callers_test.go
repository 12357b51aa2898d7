package e2e

import (
	"fmt"
	"testing"
)

// Every caller gets its own answer; a key that many ask for at once is executed once.
func TestConcurrentCallers(t *testing.T) {
	w := newWorld(t)
	w.run("--create-topics=8")
	client := dial(t, plainAddress)
	const distinct, shared = 1000, 100
	var own, same []func() reply
	for i := range distinct {
		own = append(own, client.begin(fmt.Sprintf("own-%d", i), fmt.Sprintf("message %d", i)))
	}
	for range shared {
		same = append(same, client.begin("shared", "the same"))
	}
	for i, result := range own {
		if r := result(); r.err != nil || r.message != fmt.Sprintf("message %d", i) {
			t.Errorf("caller %d got %q, %v", i, r.message, r.err)
		}
	}
	for i, result := range same {
		if r := result(); r.err != nil || r.message != "the same" {
			t.Errorf("caller %d of the shared key got %q, %v", i, r.message, r.err)
		}
	}
	if n := w.echo.count("call shared "); n != 1 {
		t.Errorf("the shared key was executed %d times", n)
	}
	if n := w.echo.count("call own-"); n != distinct {
		t.Errorf("%d keys were executed %d times", distinct, n)
	}
}
