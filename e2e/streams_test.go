package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kafkagrpc/e2e/streams"
	"kafkagrpc/wire"
)

// What the program is measured against must do its job: the replies of the program, a result for good, and no call without need.
func TestStreamsDoesTheJobOfTheProgram(t *testing.T) {
	if os.Getenv("KAFKA_GRPC_E2E_STREAMS") != "1" {
		t.Skip("is of no use but to the benchmark: run it with KAFKA_GRPC_E2E_STREAMS=1 and KAFKA_GRPC_E2E=1")
	}
	streams.Need(t)
	w := newWorld(t)
	w.createTopics(4)
	o := streams.Options{
		Brokers: strings.Join(w.kafka.Brokers(), ","), Application: "streams", Requests: requestTopic, Replies: replyTopic, Target: w.addr,
		StateDir: w.state, Threads: 4,
	}
	run := func() *process {
		c, err := streams.Command(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		c.Args = append(c.Args, "session.timeout.ms=3000", "heartbeat.interval.ms=1000") // of threads that were killed
		p := start(t, c)
		p.await(streams.Ready)
		return p
	}
	ask := func(key, message string) {
		t.Helper()
		if err := w.client().ProduceSync(t.Context(), w.request(4, key, message)...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	// Replies of one key are in one partition, and nobody else's are there.
	replies := func(n int) (all []wire.Reply, messages []string) {
		t.Helper()
		for _, r := range w.records(replyTopic, n) {
			reply, err := wire.DefaultContract().DecodeReply(r.Headers)
			if err != nil {
				t.Fatal(err)
			}
			all, messages = append(all, reply), append(messages, string(r.Value))
		}
		return all, messages
	}

	p := run()
	ask("order-1", "hi")
	first, _ := replies(2)
	ask("order-1", "hi") // from the store
	replies(4)
	ask("order-1", "something else")
	replies(5)
	p.kill()
	o.StateDir = t.TempDir()
	p = run()
	ask("order-1", "hi") // from the changelog
	all, messages := replies(7)
	if d := cmp.Diff([]string{"hi", "", "hi", "", "", "hi", ""}, messages); d != "" {
		t.Errorf("the messages of replies:\n%s", d)
	}
	again := append(append([]wire.Reply{}, all[2:4]...), all[5:]...)
	if d := cmp.Diff(append(append([]wire.Reply{}, first...), first...), again); d != "" {
		t.Errorf("repeated replies are others than the first:\n%s", d)
	}
	if all[4].Status.String() != "FailedPrecondition" {
		t.Errorf("another message under the key has the status %s", all[4].Status)
	}
	if n := w.echo.count("call order-1 "); n != 1 {
		t.Errorf("the service got %d calls, not one", n)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("an orderly stop ends with exit code %d", code)
	}

	// The program's reply to the same request, on topics of its own.
	w.createReplyTopics("program-requests", "program-replies")
	w.rewrite(requestTopic, "program-requests", replyTopic, "program-replies")
	w.run()
	records := w.request(benchPartitions, "order-1", "hi")
	for _, r := range records {
		r.Topic = "program-requests"
		for i, h := range r.Headers {
			if h.Key == "zilla:reply-to" {
				r.Headers[i].Value = []byte("program-replies")
			}
		}
	}
	if err := w.client().ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var want []wire.Reply
	for _, r := range w.records("program-replies", 2) {
		reply, err := wire.DefaultContract().DecodeReply(r.Headers)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, reply)
	}
	unordered := cmpopts.SortSlices(func(a, b wire.Field) bool { return a.Name+a.Value < b.Name+b.Value })
	if d := cmp.Diff(want, first, unordered); d != "" {
		t.Errorf("the reply is not the program's (-program +streams):\n%s", d)
	}
}
