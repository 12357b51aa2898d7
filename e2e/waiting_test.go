package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"kafkagrpc/wire"
)

// waitingRequests are many times more than the program may have in flight.
const waitingRequests = 20_000

// maxMemory is what an instance may take for them, in MiB: what it takes for few.
const maxMemory = 250

// While a service is down for long, its requests wait in the table: nothing lags, memory stays as it is, and when the service is back all are answered,
// also where an instance was killed meanwhile and another one got its partitions. KAFKA_GRPC_OUTAGE is how long the service is down.
func TestOutageThatOutlivesTheOffsets(t *testing.T) {
	outage, parkAfter := 5*time.Second, "100ms"
	if text := os.Getenv("KAFKA_GRPC_OUTAGE"); text != "" {
		var err error
		if outage, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		parkAfter = "5s"
	}
	w := newWorld(t)
	const options = "    entry: north_kafka_cache_client\n    options:\n"
	w.rewrite(options, options+"      processing: {max-in-flight: 200, retry: {max-elapsed: 72h, park-after: "+parkAfter+"}}\n")
	w.createTopics(4)
	first := w.run()
	second := start(t, w.command("run", "-c", filepath.Join(w.dir, "zilla.yaml"), "--listen", "127.0.0.2", "--state-dir", t.TempDir()))
	second.await("ready ")
	w.echo.kill()
	begun := time.Now()
	w.produceBacklog(4, waitingRequests)
	noLag := func() {
		t.Helper()
		eventually(t, "no lag", func() bool {
			lags := w.lags(requestTopic)
			for _, lag := range lags {
				if lag != "0" {
					t.Logf("lags: %v", lags)
					return false
				}
			}
			return len(lags) == 4
		})
	}
	noLag()
	t.Logf("nothing lags %v after the outage has begun", time.Since(begun).Round(time.Millisecond))
	if second.within(outage / 2) { // the outage is what is tested, not a wait for something
		t.Fatalf("the program ended during the outage:\n%s", second.output())
	}
	for _, p := range []*process{first, second} {
		if used := p.memory("VmHWM:"); used > maxMemory {
			t.Errorf("an instance took %.0f MiB for %d requests that wait", used, waitingRequests)
		} else {
			t.Logf("an instance took %.0f MiB", used)
		}
	}
	first.kill()
	if second.within(outage / 2) {
		t.Fatalf("the program ended during the outage:\n%s", second.output())
	}
	w.echo = start(t, exec.Command(binary(t, "echoservice"), "-listen", w.addr))
	back := time.Now()
	answers := w.readReplies(waitingRequests, func(r wire.Reply, message string) {
		if r.Status != 0 || message != "message of "+r.CorrelationID {
			t.Errorf("%s was answered %v %q: %s", r.CorrelationID, r.Status, message, r.Message)
		}
	})
	t.Logf("all are answered %v after the service is back; the killed instance counts as a member for 10 s", time.Since(back).Round(time.Millisecond))
	for id, n := range answers {
		if n != 1 {
			t.Errorf("%s was answered %d times", id, n)
		}
	}
	if n := w.echo.count("call "); len(answers) != waitingRequests || n != waitingRequests {
		t.Errorf("%d requests: %d were answered, and the service was called %d times", waitingRequests, len(answers), n)
	}
	noLag()
}
