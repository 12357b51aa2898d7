package e2e

import (
	"syscall"
	"testing"
)

// The program dies between request and reply: after a restart the key is answered, and answered for good.
func TestKilledBetweenRequestAndReply(t *testing.T) {
	w := newWorld(t)
	w.createTopics(4)
	run := w.run()
	client := dial(t, plainAddress)

	lost := client.begin("gate-1", "hi")
	w.echo.await("call gate-1 ")
	run.kill()
	if r := lost(); r.err == nil {
		t.Fatalf("a caller got %q from a program that was killed before the service answered", r.message)
	}

	run = w.run()
	w.echo.open()
	// The request was not lost with the process: it is executed again without being asked to.
	w.echo.until("a second call", func(lines []string, _ bool) bool { return countLines(lines, "call gate-1 ") == 2 })
	again := client.begin("gate-1", "hi")()
	if again.err != nil || again.message != "hi" {
		t.Errorf("the caller's key is answered %q, %v", again.message, again.err)
	}

	// Also in another crash, without the local state.
	run.kill()
	w.state = t.TempDir()
	run = w.run()
	again = client.begin("gate-1", "hi")()
	if again.err != nil || again.message != "hi" {
		t.Errorf("after a second crash the caller's key is answered %q, %v", again.message, again.err)
	}
	if n := w.echo.count("call gate-1 "); n != 2 {
		t.Errorf("the service got %d calls; a result that was stored was executed again", n)
	}
	run.signal(syscall.SIGTERM)
	if code := run.wait(); code != 0 {
		t.Errorf("an orderly stop ends with exit code %d", code)
	}
}

// An orderly stop finishes the call in flight and stores its result.
func TestOrderlyStopFinishesCalls(t *testing.T) {
	w := newWorld(t)
	w.createTopics(4)
	run := w.run()
	client := dial(t, plainAddress)
	answered := client.begin("gate-1", "hi")
	w.echo.await("call gate-1 ")
	run.signal(syscall.SIGTERM)
	run.awaitText("stopping")
	w.echo.open()
	if r := answered(); r.err != nil || r.message != "hi" {
		t.Errorf("the caller got %q, %v", r.message, r.err)
	}
	if code := run.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	w.run()
	if r := client.begin("gate-1", "hi")(); r.err != nil || r.message != "hi" {
		t.Errorf("after the restart the key is answered %q, %v", r.message, r.err)
	}
	if n := w.echo.count("call gate-1 "); n != 1 {
		t.Errorf("the service got %d calls, not one", n)
	}
}
