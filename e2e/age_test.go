package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// What reset says is executed again is executed again, or becomes a dead letter with processing.max-age.
func TestRequestsThatTheTableHasForgotten(t *testing.T) {
	w := newHandOver(t)
	state := t.TempDir()
	run := func(file string) *process {
		t.Helper()
		p := w.instance(file, "--state-dir", state)
		p.await("ready ")
		return p
	}
	stop := func(p *process) {
		t.Helper()
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		w.awaitNoMembers()
	}
	reset := func(file, want string, args ...string) {
		t.Helper()
		c := w.command(append([]string{"reset", "-c", file, "--state-dir", state}, args...)...)
		c.Env = append(c.Env, w.service()...)
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("reset: %v, no %q in:\n%s", err, want, out)
		}
	}
	forgetful := w.variant("", "      table: {expiry: 1s}\n")
	aging := w.variant("        max-age: 1s\n", "      table: {expiry: 1s}\n")

	p := run(forgetful)
	p.awaitText("requests outlive their results: topic chaos-requests keeps requests for 168h0m0s, and the table their results for 1s")
	old := time.Now().Add(-48 * time.Hour)
	var calls []string
	for _, key := range []string{"a", "b", "c", "d"} {
		calls = append(calls, w.askAmong(handOverPartitions, key, old))
	}
	w.await(calls)
	stop(p)
	const says = "topic chaos-requests: up to 4 requests are executed again at the next start: they are older than table.expiry (1s)"
	reset(forgetful, "would do: "+says, "--dry-run")
	w.callsOf(4)
	reset(forgetful, says)
	p = run(forgetful)
	w.await(calls) // once more
	stop(p)
	w.callsOf(8)
	reset(aging, "topic chaos-requests: no request is executed again")
	p = run(aging)
	letters := w.records(handOverGroup+"-dead-letters", 4)
	for _, l := range letters {
		if string(l.Value) != handOverMessage {
			t.Errorf("dead letter %q %q", l.Value, l.Headers)
		}
	}
	stop(p)
	w.callsOf(8)
}

// Where the broker stamps the records, what counts is when it did.
func TestMaxAgeWhereTheBrokerStampsRecords(t *testing.T) {
	w := newHandOver(t)
	w.configure(handOverRequests, "message.timestamp.type", "LogAppendTime")
	p := w.instance(w.variant("        max-age: 1h\n"))
	p.await("ready ")
	w.await([]string{w.askAmong(handOverPartitions, "a", time.Now().Add(-48*time.Hour))})
	w.callsOf(1)
}
