package main

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Whatever is started finds a broker that answers, behind one that takes connections and says nothing.
func TestCommandsPassASilentBroker(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a broker that does not answer")
	}
	b := newLettersBench(t)
	silent := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	timed := func(what string, do func()) {
		b.brokers = silent() + "," + b.kafka.Brokers()[0] + "," + silent()
		begun := time.Now()
		do()
		t.Log(what, time.Since(begun))
	}
	var stop, stopViews func()
	var views string
	timed("run", func() { stop = b.run(b.file) })
	request := requestRecord("once", "echo-responses")
	request.Headers = slices.DeleteFunc(request.Headers, func(h kgo.RecordHeader) bool { return h.Key == "grpc:deadline" })
	b.produce(request)
	b.answered("echo-responses", "once", 2)
	timed("views", func() { views, stopViews = b.running("views") })
	b.await(views, "once", "get", "once")
	timed("dead-letters", func() { b.list() })
	timed("check", func() {
		var stdout, stderr bytes.Buffer
		// The brokers that are silent are told of.
		if code := execute(t.Context(), []string{"check", "--connect", "-c", b.file, "--brokers", b.brokers}, &stdout, &stderr, b.env); code != exitFailure {
			t.Errorf("exit code %d: %s%s", code, &stdout, &stderr)
		}
		if out := stdout.String(); strings.Count(out, "FAILED") != 2 || strings.Count(out, "takes connections and does not answer") != 2 ||
			!strings.Contains(out, "2 partitions") {
			t.Errorf("%s%s", out, &stderr)
		}
	})
	stopViews()
	stop()
	b.left()
	timed("reset", func() {
		if code, out := b.reset(); code != exitOK {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
}
