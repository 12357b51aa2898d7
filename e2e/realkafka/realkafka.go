package realkafka

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// logLines is how much of the broker's log a failed test shows.
const logLines = 200

// Options are the choices for a Kafka.
type Options struct {
	// Properties are added to server.properties or replace what is there, for example listeners with SASL.
	// An external cluster is what it is.
	Properties map[string]string

	// Listeners are added to the one that Brokers names: the security protocol (SSL, SASL_SSL, SASL_PLAINTEXT) by name, in
	// small letters and digits. Their settings are Properties that begin with listener.name.<name>. A test that needs
	// them is skipped on an external cluster.
	Listeners map[string]string

	// Lasting makes a broker that is to be measured: quick once it has run for some minutes, not quick to start.
	// An external cluster is what it is.
	Lasting bool
}

// Kafka is a cluster for one test. Its methods are for the test's goroutine; they end the test on failure.
type Kafka struct {
	t        testing.TB
	external []string
	own      *broker // nil for an external cluster
}

// Need skips a test where no real Kafka is to be used or can be had. Where CI is set, one that cannot be had fails
// the test instead.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv("KAFKA_GRPC_E2E") != "1" {
		t.Skip("needs a real Kafka: run it with KAFKA_GRPC_E2E=1, and java 17+ and mvn, or KAFKA_BROKERS=host:port,...")
	}
	if os.Getenv("KAFKA_BROKERS") != "" {
		return
	}
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("needs a real Kafka: %v", err)
			}
			t.Skipf("needs a real Kafka: %v; install java 17+ and mvn, or set KAFKA_BROKERS=host:port,...", err)
		}
	}
}

// Start starts a Kafka with no data, as Need permits, and stops it at the end of the test. A failed test shows the
// broker's log.
func Start(t testing.TB, o Options) *Kafka {
	t.Helper()
	Need(t)
	if brokers := os.Getenv("KAFKA_BROKERS"); brokers != "" {
		if len(o.Listeners) > 0 {
			t.Skip("cannot add listeners to the Kafka of KAFKA_BROKERS: unset it to run this test")
		}
		return &Kafka{t: t, external: strings.Split(brokers, ",")}
	}
	lib, err := Jars(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own, err := newBroker(t.Context(), lib, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	k := &Kafka{t: t, own: own}
	t.Cleanup(func() {
		if err := own.kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of Kafka's log:\n%s", own.logged(logLines))
		}
	})
	k.must(own.start(t.Context()))
	return k
}

// Brokers are the addresses to connect to. They stay the same over Restart.
func (k *Kafka) Brokers() []string {
	if k.own == nil {
		return k.external
	}
	return []string{address(k.own.port)}
}

// PID is the process of the broker; false: it is an external cluster.
func (k *Kafka) PID() (pid int, own bool) {
	if k.own == nil {
		return 0, false
	}
	return k.own.process.Process.Pid, true
}

// Listener is the address of one of Options.Listeners.
func (k *Kafka) Listener(name string) string {
	k.t.Helper()
	port, ok := k.own.listeners[name]
	if !ok {
		k.t.Fatalf("this Kafka has no listener %q", name)
	}
	return address(port)
}

// Tool is the beginning of a command that runs one of Kafka's own tools, a main class among the broker's jars.
func (k *Kafka) Tool(class string) []string {
	k.t.Helper()
	k.needOwn()
	return []string{"java", "-cp", filepath.Join(k.own.lib, "*"), class}
}

// Kill ends the broker as a crash does, with SIGKILL.
func (k *Kafka) Kill() {
	k.t.Helper()
	k.needOwn()
	k.must(k.own.kill())
}

// Stop ends the broker in order. It returns when the broker has ended, which is after 20 seconds at the latest.
func (k *Kafka) Stop() {
	k.t.Helper()
	k.needOwn()
	k.must(k.own.stop())
}

// Restart brings the broker back after Kill or Stop, with its data and on its port.
func (k *Kafka) Restart() {
	k.t.Helper()
	k.needOwn()
	k.must(k.own.start(k.t.Context()))
}

func (k *Kafka) needOwn() {
	k.t.Helper()
	if k.own == nil {
		k.t.Skip("cannot stop the Kafka of KAFKA_BROKERS: unset it to run this test")
	}
}

func (k *Kafka) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}
