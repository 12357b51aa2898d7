package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// health is what `kafka-grpc health` answers of /readyz, as a probe of a container asks.
type health struct {
	code  int
	Ready bool
	Parts []struct {
		Name, Reason string
		Ready        bool
	}
}

// health asks an instance whether it is ready.
func (w *world) health(admin string) (h health) {
	w.t.Helper()
	stdout, stderr, code := output(w.t, w.command("health", "--admin-addr", admin))
	text := stdout + stderr
	from, to := strings.Index(text, "{"), strings.LastIndex(text, "}")
	if from < 0 || to < from {
		w.t.Fatalf("exit code %d: %s", code, text)
	}
	if err := json.Unmarshal([]byte(text[from:to+1]), &h); err != nil {
		w.t.Fatalf("%v in %s", err, text)
	}
	h.code = code
	return h
}

// reason is why a part is not ready; "" if it is.
func (h health) reason(t *testing.T, name string) string {
	t.Helper()
	for _, part := range h.Parts {
		if part.Name == name {
			return part.Reason
		}
	}
	t.Fatalf("no part %q in %+v", name, h)
	return ""
}

// An outage of Kafka takes an instance out of the traffic and says why, and does not restart it; with Kafka it is back by itself.
func TestHealthInAnOutageOfKafka(t *testing.T) {
	w := newWorld(t)
	w.createTopics(2)
	run := w.run()
	admin := run.admin()
	call := func(key string) {
		t.Helper()
		stdout, stderr, code := w.grpcurl(plainAddress, "-plaintext", "-H", "idempotency-key: "+key, "-d", `{"message":"hi"}`)
		if code != 0 || !strings.Contains(stdout, `"hi"`) {
			t.Fatalf("calling with key %s: exit code %d: %s%s", key, code, stdout, stderr)
		}
	}
	// Only a restart could cure what these two tell, and it cures no outage.
	alive := func() {
		t.Helper()
		if _, stderr, code := output(t, w.command("health", "--live", "--admin-addr", admin)); code != 0 {
			t.Errorf("not alive: exit code %d: %s", code, stderr)
		}
		stdout, stderr, code := output(t, exec.Command(binary(t, "grpcurl"), "-plaintext", "-max-time", "10", plainAddress, "grpc.health.v1.Health/Check"))
		if code != 0 || !strings.Contains(stdout, `"SERVING"`) {
			t.Errorf("grpc.health.v1: exit code %d: %s%s", code, stdout, stderr)
		}
	}
	const kafkaPart, processorPart = "kafka south_kafka_client", "processor west_kafka_grpc_remote_server"
	call("before")
	if h := w.health(admin); h.code != 0 || !h.Ready || h.reason(t, kafkaPart) != "" || h.reason(t, processorPart) != "" {
		t.Errorf("before the outage: %+v", h)
	}
	alive()

	w.kafka.Kill()
	var h health
	eventually(t, "the instance is not ready, for Kafka", func() bool {
		h = w.health(admin)
		return h.reason(t, kafkaPart) != ""
	})
	broker := w.kafka.Brokers()[0]
	if why := h.reason(t, kafkaPart); h.code != 1 || h.Ready || !strings.Contains(why, "cannot reach Kafka at "+broker) || !strings.Contains(why, "connection refused") {
		t.Errorf("in the outage: %+v", h)
	}
	alive()

	w.kafka.Restart()
	eventually(t, "the instance is ready again", func() bool {
		h = w.health(admin)
		return h.code == 0
	})
	if !h.Ready || h.reason(t, kafkaPart) != "" || h.reason(t, processorPart) != "" {
		t.Errorf("after the outage: %+v", h)
	}
	alive()
	call("after")
	call("before") // answered from the table
	if n := w.echo.count("call "); n != 2 {
		t.Errorf("the service was called %d times for 2 keys", n)
	}
}
