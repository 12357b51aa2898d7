// Package streams runs Streams.java, which does the program's job as one would write it with Kafka Streams: the benchmark measures the
// program's exactly-once mode against it.
//
// It needs a JDK 17 or newer and mvn. Its class path is built at the first use and kept where that of the tests' Kafka is.
package streams

import (
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"kafkagrpc/e2e/realkafka"
)

//go:embed pom.xml
var pom []byte

//go:embed Streams.java
var source []byte

// Ready is the line on standard output that says that all threads have their partitions.
const Ready = "ready"

// Options are what the program works on.
type Options struct {
	Brokers string // host:port,... of Kafka
	// Application is the id of Kafka Streams: the consumer group, and what the names of its own topics begin with.
	Application       string
	Requests, Replies string // topics
	Target            string // host:port of the service
	StateDir          string

	Threads int           // default 8
	Commit  time.Duration // between two transactions of a thread, in whole milliseconds; default 100ms
}

// Changelog is the topic of results.
func (o Options) Changelog() string { return o.Application + "-results-changelog" }

// Need skips a test or benchmark where realkafka.Need does, or there is no JDK.
func Need(t testing.TB) {
	t.Helper()
	realkafka.Need(t)
	for _, program := range []string{"javac", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs Kafka Streams: %v; install a JDK 17+ and mvn", err)
		}
	}
}

// Command is the program, which it builds at the first use. It prints Ready when it is ready, and ends in order on SIGTERM, with exit code 0.
func Command(ctx context.Context, o Options) (*exec.Cmd, error) {
	lib, err := realkafka.Maven(ctx, "streams", map[string][]byte{"pom.xml": pom, "Streams.java": source},
		"compiler:compile", "dependency:copy-dependencies")
	if err != nil {
		return nil, err
	}
	settings := []string{
		"bootstrap.servers=" + o.Brokers, "application.id=" + o.Application, "requests=" + o.Requests, "replies=" + o.Replies,
		"target=" + o.Target, "state.dir=" + o.StateDir,
	}
	if o.Threads > 0 {
		settings = append(settings, fmt.Sprintf("num.stream.threads=%d", o.Threads))
	}
	if o.Commit > 0 {
		settings = append(settings, fmt.Sprintf("commit.interval.ms=%d", o.Commit.Milliseconds()))
	}
	java := []string{"-Xms256m", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(lib, "*") + string(filepath.ListSeparator) + filepath.Join(lib, "classes"), "Streams"}
	return exec.Command("java", slices.Concat(java, settings)...), nil
}
