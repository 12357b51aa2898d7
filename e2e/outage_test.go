package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkagrpc/wire"
)

// outageRequests are more than the program takes in while the service is down: 1000 for each of 4 partitions.
const outageRequests = 5_000

// A service that is down loses no request, makes none twice, and costs no busy loop. KAFKA_GRPC_OUTAGE is how long it is down.
func TestOutageOfTheService(t *testing.T) {
	outage := 15 * time.Second
	if text := os.Getenv("KAFKA_GRPC_OUTAGE"); text != "" {
		var err error
		if outage, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t)
	w.createTopics(4)
	run := w.run()
	w.echo.kill()
	w.produceBacklog(4, outageRequests)
	run.awaitText("a service fails: its calls wait")

	cpu, begun := run.cpu(), time.Now()
	exited := run.within(outage) // the outage is what is tested, not a wait for something
	if exited {
		t.Fatalf("the program ended during the outage:\n%s", run.output())
	}
	used, elapsed := run.cpu()-cpu, time.Since(begun)
	t.Logf("%v of processor time in an outage of %v: %.1f %% of one core; %d requests waited", used, elapsed.Round(time.Second),
		100*used.Seconds()/elapsed.Seconds(), outageRequests)
	if used > elapsed/3 {
		t.Errorf("%v of processor time in %v: that is a busy loop", used, elapsed)
	}

	w.echo = start(t, exec.Command(binary(t, "echoservice"), "-listen", w.addr))
	answers := w.readReplies(outageRequests, func(r wire.Reply, message string) {
		if r.Status != 0 || message != "message of "+r.CorrelationID {
			t.Errorf("%s was answered %v %q: %s", r.CorrelationID, r.Status, message, r.Message)
		}
	})
	for id, n := range answers {
		if n != 1 {
			t.Errorf("%s was answered %d times", id, n)
		}
	}
	if len(answers) != outageRequests {
		t.Errorf("%d requests of %d were answered", len(answers), outageRequests)
	}
	if n := w.echo.count("call "); n != outageRequests {
		t.Errorf("%d requests were executed %d times", outageRequests, n)
	}
}

// within waits for d, or until the process has ended, which it reports.
func (p *process) within(d time.Duration) (ended bool) {
	over := time.After(d)
	for {
		p.mu.Lock()
		ended, changed := p.ended, p.changed
		p.mu.Unlock()
		if ended {
			return true
		}
		select {
		case <-changed:
		case <-over:
			return false
		}
	}
}

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	// User and system time are the 12th and 13th field behind the name, in hundredths of a second.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
