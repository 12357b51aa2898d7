package containers_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"kafkagrpc/e2e/chaos/history"
	"kafkagrpc/e2e/chaos/service"
)

// slow has some calls of a second, so that some are in flight at any time.
var slow = service.Options{Slow: 0.02, SlowFor: time.Second, Fail: 0.03}

// One instance, three, and one again.
func TestScale(t *testing.T) {
	w := newWorld(t, 200, slow)
	w.start(0)
	w.pause(calm)
	grown := time.Now()
	w.start(1, 2)
	w.pause(2 * calm)
	by := executedBy(w.recorder.Events(), grown)
	for _, i := range w.instances {
		if by[i.name] == 0 {
			t.Errorf("instance %s has executed nothing while there were three: %v", i.name, by)
		}
	}
	w.terminate(w.instances[2])
	w.pause(calm) // one at a time, and requests enough to see what the two stops mean for them
	w.terminate(w.instances[1])
	w.pause(sessionTimeout + calm) // for the one that is left to get all partitions
	w.judge(map[string]int{history.Terminate: 2})
}

// Each instance in turn is stopped, and started with another image, while gRPC callers and the load go on: 500 requests a
// second together. No caller sees an error, and nothing is executed again.
func TestRollingUpgrade(t *testing.T) {
	const fromRecords, fromCallers = 250, 250
	w := newWorld(t, fromRecords, service.Options{Slow: 0.02, SlowFor: time.Second})
	w.start(0, 1, 2)
	var addresses []string
	for _, i := range w.instances {
		addresses = append(addresses, net.JoinHostPort(loopback, i.north))
	}
	calls := newCallers(t, fromCallers, addresses)
	calling, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { calls.run(calling) })
	w.pause(calm)
	began := time.Now()
	for _, i := range w.instances {
		from := time.Now()
		w.terminate(i)
		stopped := time.Now()
		i.start(w.images[1])
		i.waitReady()
		t.Logf("instance %s: stopped in %v, ready %v later", i.name, stopped.Sub(from).Round(time.Millisecond), time.Since(stopped).Round(time.Millisecond))
	}
	took := time.Since(began)
	w.pause(calm)
	stop()
	running.Wait()
	t.Logf("upgrade of three instances in %v; %d calls, errors %v, longest call %v", took.Round(100*time.Millisecond), calls.sent,
		calls.errors, calls.longest.Round(10*time.Millisecond))
	if len(calls.errors) > 0 {
		t.Errorf("callers saw errors: %v, first %v", calls.errors, calls.first)
	}
	w.judge(map[string]int{history.Terminate: 3})
}

// An instance is killed and its volume is lost: the table comes back from Kafka.
func TestVolumeLost(t *testing.T) {
	w := newWorld(t, 200, slow)
	w.start(0, 1, 2)
	w.pause(calm)
	i := w.instances[1]
	from := time.Now()
	i.kill()
	w.fault(history.Kill, i, from)
	i.lose()
	w.start(1)
	w.pause(calm)
	w.terminate(w.instances[2])
	w.instances[2].lose()
	w.start(2)
	w.pause(calm)
	w.judge(map[string]int{history.Kill: 1, history.Terminate: 1})
}
