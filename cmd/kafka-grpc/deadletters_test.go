package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/embedded"
)

const lettersTopic = "example-west_kafka_grpc_remote_server-dead-letters"

// lettersBench is a Kafka and a service for the seed's configuration, and the command line on them.
type lettersBench struct {
	t      *testing.T
	kafka  *embedded.Kafka
	echo   *embedded.Echo
	client *kgo.Client
	// brokers is what the commands are told.
	brokers string
	env     func(string) (string, bool)
	file    string // answers on echo-responses
	fixed   string // answers on other-responses
	state   string
}

func newLettersBench(t *testing.T) *lettersBench {
	t.Helper()
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{"echo-requests": 2, "echo-responses": 1, "other-responses": 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	echo, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := echo.Close(); err != nil {
			t.Error(err)
		}
	})
	host, port, err := net.SplitHostPort(echo.Addr())
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Brokers()...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	file, _, _ := seedOnFreePorts(t)
	b := &lettersBench{
		t: t, kafka: kafka, echo: echo, client: client, brokers: kafka.Brokers()[0], env: environment("ECHO_SERVER_HOST", host, "ECHO_SERVER_PORT", port), file: file, state: t.TempDir(),
	}
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	b.fixed = filepath.Join(filepath.Dir(b.file), "fixed.yaml")
	if err := os.WriteFile(b.fixed, bytes.ReplaceAll(text, []byte("echo-responses"), []byte("other-responses")), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a configuration until stop.
func (b *lettersBench) run(file string) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	stderr := newOutput()
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", file, "--listen", "127.0.0.1", "--brokers", b.brokers, "--state-dir", b.state},
			newOutput(), stderr, b.env)
	}()
	stderr.await(b.t, "ready grpc://")
	return func() {
		b.t.Helper()
		cancel()
		if c := <-code; c != 0 {
			b.t.Errorf("exit code %d of run: %s", c, stderr)
		}
	}
}

// command runs a dead-letters command that ends with an exit code, and answers all that it printed.
func (b *lettersBench) command(code int, args ...string) string {
	b.t.Helper()
	out, notes := b.outputs(code, args...)
	return out + notes
}

func (b *lettersBench) outputs(code int, args ...string) (out, notes string) {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"dead-letters", args[0], "-c", b.file, "--brokers", b.brokers}, args[1:]...)
	if got := execute(b.t.Context(), args, &stdout, &stderr, b.env); got != code {
		b.t.Fatalf("exit code %d of %q, not %d: %s%s", got, args, code, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

// expect fails the test unless all texts are in what a command printed.
func (b *lettersBench) expect(got string, texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			b.t.Errorf("no %q in:\n%s", text, got)
		}
	}
}

type listed struct {
	Letter        string  `json:"letter"`
	Key           *string `json:"key"`
	CorrelationID string  `json:"correlation-id"`
	Replayed      *string `json:"replayed"`
}

func (b *lettersBench) list(args ...string) []listed {
	b.t.Helper()
	out, _ := b.outputs(0, append([]string{"list", "-o", "json"}, args...)...)
	var letters []listed
	if err := json.Unmarshal([]byte(out), &letters); err != nil {
		b.t.Fatalf("%v in: %s", err, out)
	}
	return letters
}

// awaitLetters waits until that many letters are not replayed.
func (b *lettersBench) awaitLetters(n int) []listed {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		letters := b.list()
		if len(letters) == n {
			return letters
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%d letters, not %d: %v", len(letters), n, letters)
		}
	}
}

func (b *lettersBench) produce(records ...*kgo.Record) {
	b.t.Helper()
	if err := b.client.ProduceSync(b.t.Context(), records...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// records is how many records a topic was given.
func (b *lettersBench) records(topic string) (n int64) {
	b.t.Helper()
	ends, err := kadm.NewClient(b.client).ListEndOffsets(b.t.Context(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

func (b *lettersBench) unchanged(what string, f func()) {
	b.t.Helper()
	letters, requests := b.records(lettersTopic), b.records("echo-requests")
	f()
	if l, r := b.records(lettersTopic)-letters, b.records("echo-requests")-requests; l != 0 || r != 0 {
		b.t.Errorf("%s wrote %d records to the dead-letter topic and %d to the request topic", what, l, r)
	}
}

// requestRecord is a unary request as a hand-written producer makes it, to be answered on a topic.
func requestRecord(id, replyTo string) *kgo.Record {
	r := &kgo.Record{Topic: "echo-requests", Key: []byte(id), Value: echoMessage("hi")}
	for _, h := range [][2]string{
		{"zilla:service", "grpc.examples.echo.Echo"}, {"zilla:method", "UnaryEcho"}, {"zilla:reply-to", replyTo}, {"zilla:correlation-id", id},
		{"meta:authorization", "hunter2"},
		{"grpc:deadline", fmt.Sprint(time.Now().Add(-time.Hour).UnixMilli())},
	} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return r
}

// What could not be answered is listed; when its cause is gone, it is replayed, once, and answered.
func TestDeadLettersAreListedAndReplayed(t *testing.T) {
	b := newLettersBench(t)
	stop := b.run(b.file)
	b.expect(b.command(0, "list"), "topic "+lettersTopic, "0 dead letters")
	if letters := b.list(); len(letters) != 0 {
		t.Errorf("letters %v", letters)
	}
	b.produce(requestRecord("mistaken", "other-responses"))
	b.awaitLetters(1)
	b.produce(
		&kgo.Record{Topic: "echo-requests", Value: []byte("no headers")},
		&kgo.Record{Topic: "echo-requests", Key: []byte{0xff, 0}, Value: []byte("binary key")},
	)
	letters := b.awaitLetters(3)
	stop()

	mistaken := letters[0]
	if mistaken.CorrelationID != "mistaken" || mistaken.Replayed != nil {
		t.Fatalf("letters %+v", letters)
	}
	env := b.env
	b.env = func(name string) (string, bool) {
		if name == "COLUMNS" {
			return "120", true
		}
		return env(name)
	}
	all := b.command(0, "list")
	b.expect(all, "LETTER", "null", `"\xff\x00"`, "mistaken", "grpc.examples", "echo-requests", "reply topic", "3 dead letters\n")
	for line := range strings.Lines(all) {
		if len([]rune(line)) > 121 { // with its end
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
	b.expect(b.command(0, "list", "--limit", "1"), "3 dead letters, the newest 1 are shown (--limit)")
	if newest := b.list("--limit", "2"); len(newest) != 2 || newest[0].Letter != letters[1].Letter || newest[1].Letter != letters[2].Letter {
		t.Errorf("the newest two of %v are %v", letters, newest)
	}
	out, _ := b.outputs(0, "list", "-o", "json")
	b.expect(out, `"value-base64":"`, `{"name":"meta:authorization","value":"***"}`, `"key":null`, `"key-base64":"/wA="`)
	if strings.Contains(out+all, "hunter2") {
		t.Error("a credential is printed")
	}

	b.unchanged("a dry run", func() {
		b.expect(b.command(0, "replay", "--all", "--dry-run"), mistaken.Letter+" would be replayed to echo-requests", "3 would be replayed, 0 were")
	})

	stop = b.run(b.fixed)
	defer stop()
	b.expect(b.command(0, "replay", mistaken.Letter, mistaken.Letter), mistaken.Letter+" replayed to echo-requests\n1 replayed, 0 were replayed before")
	b.answered("other-responses", "mistaken", 2)
	if rest := b.list(); len(rest) != 2 || rest[0].Letter == mistaken.Letter || rest[1].Letter == mistaken.Letter {
		t.Errorf("not replayed are %+v", rest)
	}
	b.expect(b.command(0, "list"), "2 dead letters, and 1 that were replayed (--all shows them)")
	if listed := b.list("--all"); len(listed) != 3 || listed[0].Letter != mistaken.Letter || listed[0].Replayed == nil || listed[1].Replayed != nil {
		t.Errorf("with --all: %+v", listed)
	}
	b.expect(b.command(0, "list", "--all"), "REPLAYED", "3 dead letters\n")

	b.unchanged("a second replay", func() {
		b.expect(b.command(0, "replay", mistaken.Letter), mistaken.Letter+" not replayed: it was at ", "--force", "0 replayed, 1 were replayed before")
	})
	b.expect(b.command(0, "replay", mistaken.Letter, "--force"), "1 replayed, 0 were")
	b.answered("other-responses", "mistaken", 4)

	// Nothing helps the others: they come back as new letters.
	b.expect(b.command(0, "replay", "--all"), "2 replayed, 1 were replayed before, 0 cannot")
	b.awaitLetters(2)
	if listed := b.list("--all"); len(listed) != 5 {
		t.Errorf("with --all: %+v", listed)
	}
}

// answered waits for the records on other-responses: each reply is a message and an end.
func (b *lettersBench) answered(topic, id string, n int) {
	b.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	var replies []*kgo.Record
	for len(replies) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			b.t.Fatalf("%d reply records of %d: %v", len(replies), n, err)
		}
		replies = append(replies, fetches.Records()...)
	}
	for i, r := range replies[:n] {
		if string(r.Key) != id || i%2 == 0 && !bytes.Equal(r.Value, echoMessage("hi")) {
			b.t.Errorf("reply record %d has key %q, value %q", i, r.Key, r.Value)
		}
	}
}

func TestDeadLettersOfARangeAndThoseThatCannotBeReplayed(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	if err := b.kafka.Cluster().CreateTopic(lettersTopic, 2, nil); err != nil {
		t.Fatal(err)
	}
	var letters []*kgo.Record
	for n := range 6 {
		topic := "echo-requests"
		if n == 4 {
			topic = "elsewhere"
		}
		r := &kgo.Record{Topic: lettersTopic, Partition: 1, Key: fmt.Append(nil, n), Value: []byte("v")}
		if n == 5 {
			r.Key, r.Value = nil, nil
		}
		for _, h := range (deadletter.Cause{Reason: "made", Topic: topic, Partition: 7, Offset: int64(n), Timestamp: time.Now()}).Headers() {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		letters = append(letters, r)
	}
	exact, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer exact.Close()
	if err := exact.ProduceSync(t.Context(), letters...).FirstErr(); err != nil {
		t.Fatal(err)
	}

	b.unchanged("a command that fails", func() {
		for _, c := range []struct {
			name string
			code int
			args []string
			want string
		}{
			{name: "a letter that is not there", code: 1, args: []string{"replay", "1@0", "1@99"}, want: "1@99"},
			{name: "an empty partition", code: 1, args: []string{"replay", "0@0"}, want: "is empty"},
			{name: "a partition that is not there", code: 1, args: []string{"replay", "7@0"}, want: "no partition 7"},
			{name: "a range without letters", code: 1, args: []string{"replay", "--range", "1@6-9"}, want: "holds offsets 0 to 5"},
			{name: "another topic's record", code: 1, args: []string{"replay", "1@4"}, want: "1@4 cannot be replayed: elsewhere is no request topic of the binding, which reads echo-requests"},
			{name: "a record that did not fit", code: 1, args: []string{"replay", "1@5"}, want: "while it lasts it is in topic echo-requests at 7@5"},
			{name: "no letter", code: 2, args: []string{"replay"}, want: "which letters?"},
			{name: "a letter and all", code: 2, args: []string{"replay", "1@0", "--all"}, want: "which letters?"},
			{name: "a range and all", code: 2, args: []string{"replay", "--range", "1@0-1", "--all"}, want: "which letters?"},
			{name: "letters that are none", code: 2, args: []string{"replay", "1@x", "7"}, want: "\"1@x\" is not PARTITION@OFFSET, such as 0@12\n\"7\""},
			{name: "a range backwards", code: 2, args: []string{"replay", "--range", "1@3-1"}, want: "ends before it begins"},
			{name: "another binding", code: 2, args: []string{"replay", "--all", "--binding", "west"}, want: "west_kafka_grpc_remote_server"},
			{name: "another binding's list", code: 2, args: []string{"list", "--binding", "west"}, want: "west_kafka_grpc_remote_server"},
			{name: "an unknown output", code: 2, args: []string{"list", "-o", "yaml"}, want: "table or json"},
			{name: "a negative limit", code: 2, args: []string{"list", "--limit", "-1"}, want: "--limit"},
			{name: "a filter and a letter", code: 2, args: []string{"replay", "1@0", "--reason", "made"}, want: "a filter goes with --range and --all"},
			{name: "an empty filter", code: 2, args: []string{"replay", "--reason", ""}, want: "--reason: it is empty"},
			{name: "an empty filter beside all", code: 2, args: []string{"replay", "--all", "--since", ""}, want: "--since: it is empty"},
			{name: "a time that is none", code: 2, args: []string{"list", "--since", "noon", "--until", "x"}, want: "--since \"noon\": it is a time such as 2026-01-31T12:00:00Z, or a duration ago, such as 15m\n--until \"x\""},
			{name: "a rate that is none", code: 2, args: []string{"replay", "--all", "--rate", "0/s"}, want: "--rate \"0/s\""},
			{name: "a rate of another unit", code: 2, args: []string{"replay", "--all", "--rate", "5/day"}, want: "--rate \"5/day\""},
			{name: "edit of several", code: 2, args: []string{"replay", "--edit", "1@0", "1@1"}, want: "--edit takes one letter"},
			{name: "edit of a filter", code: 2, args: []string{"replay", "--edit", "--reason", "made"}, want: "--edit takes one letter"},
			{name: "a filter that nothing passes", args: []string{"replay", "--reason", "nothing like it"}, want: "replaying 0 letters\n0 replayed, 0 were"},
			{name: "a range in the future", args: []string{"replay", "--since", "2099-01-01T00:00:00Z"}, want: "replaying 0 letters\n0 replayed"},
			{name: "an argument too many", code: 2, args: []string{"list", "1@0"}, want: `"1@0"`},
		} {
			if got := b.command(c.code, c.args...); !strings.Contains(got, c.want) {
				t.Errorf("%s: no %q in: %s", c.name, c.want, got)
			}
		}
	})

	for filter, want := range map[string]int{"--key-prefix=1": 1, "--reason=MADE": 6, "--reason=other": 0, "--since=1h": 6, "--until=1h": 0, "--method=UnaryEcho": 0} {
		if listed := b.list(filter); len(listed) != want {
			t.Errorf("%s lists %+v", filter, listed)
		}
	}
	b.unchanged("a dry run", func() {
		b.expect(b.command(0, "replay", "--key-prefix", "1", "--dry-run"), "1@1 would be replayed to echo-requests\n1 would be replayed, 0 were")
	})

	b.expect(b.command(0, "replay", "--range", "1@1-2", "--binding", "west_kafka_grpc_remote_server"), "1@1 replayed", "1@2 replayed", "2 replayed, 0 were")
	if n := b.records("echo-requests"); n != 2 {
		t.Errorf("%d requests, not 2", n)
	}
	b.expect(b.command(0, "replay", "--range", "1@0-2", "--key-prefix", "2", "--force", "--rate", "1000/s"), "replaying 1 letter at 1000/s\n1@2 replayed")
	b.expect(b.command(0, "replay", "--key-prefix", "3", "--since", "1h"), "replaying 1 letter\n1@3 replayed")
	// Those that can are replayed, whatever the others.
	b.expect(b.command(1, "replay", "--range", "1@0-1000"), "replaying 1 letter\n1@0 replayed", "1@4 cannot", "1@5 cannot", "1 replayed, 3 were replayed before, 2 cannot", "2 letters of topic")
	b.unchanged("the marks", func() {
		b.expect(b.command(1, "replay", "--all"), "0 replayed, 4 were replayed before, 2 cannot")
	})
	if listed := b.list("--all", "--limit", "0"); len(listed) != 6 {
		t.Errorf("marks are taken for letters: %+v", listed)
	}
}

// Who ends a replay learns how it goes on.
func TestReplayOfDeadLettersIsInterrupted(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	if err := b.kafka.Cluster().CreateTopic(lettersTopic, 1, nil); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		r := &kgo.Record{Topic: lettersTopic, Key: fmt.Append(nil, n), Value: []byte("v")}
		for _, h := range (deadletter.Cause{Reason: "made", Topic: "echo-requests"}).Headers() {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		b.produce(r)
	}
	// With one letter an hour, each replay ends while the second one waits.
	interrupted := func(args ...string) string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stdout, stderr := newOutput(), newOutput()
		code := make(chan int, 1)
		go func() {
			code <- execute(ctx, append([]string{"dead-letters", "replay", "-c", b.file, "--brokers", b.brokers, "--rate", "1/h"}, args...), stdout, stderr, b.env)
		}()
		stdout.await(t, "replayed to echo-requests")
		cancel()
		if c := <-code; c != 1 {
			t.Errorf("exit code %d", c)
		}
		return stdout.String() + stderr.String()
	}
	b.expect(interrupted("--all"), "replaying 5 letters at 1/h\n0@0 replayed", "1 replayed, 0 were replayed before", "interrupted before 0@1\n",
		"the same command goes on with the rest: what was replayed is marked")
	ago := interrupted("--since", "2h", "--reason", "made")
	b.expect(ago, "replaying 4 letters at 1/h\n0@1 replayed", "the same command with --since 2")
	if strings.Contains(ago, "--until") {
		t.Error(ago)
	}
	b.expect(interrupted("--range", "0@2-4"), "0@2 replayed", "1 replayed, 0 were", "interrupted before 0@3\n")
	b.expect(interrupted("--range", "0@0-4", "--force"), "replaying 5 letters at 1/h\n0@0 replayed", "with --force the same command begins anew; what is left is --range 0@1-4\n")
	b.expect(interrupted("--force", "0@4", "0@1", "0@3"), "0@4 replayed", "what is left is 0@1 0@3\n")
	b.expect(b.command(0, "replay", "--all"), "replaying 1 letter\n0@3 replayed", "1 replayed, 4 were replayed before")
}

func TestDeadLettersWithoutATopic(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	b.expect(b.command(1, "list"), lettersTopic, "does not exist", "west_kafka_grpc_remote_server")
	b.expect(b.command(1, "replay", "--all"), lettersTopic, "does not exist")
}

func TestDeadLettersHelp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{code: 0, want: "dead-letters "},
		{args: []string{"dead-letters"}, code: 0, want: "replay"},
		{args: []string{"dead-letters", "lsit"}, code: 2, want: `"lsit"`},
		{args: []string{"dead-letters", "list", "--help"}, code: 0, want: "--limit"},
		{args: []string{"dead-letters", "replay", "--help"}, code: 0, want: "--dry-run"},
		{args: []string{"dead-letters", "list"}, code: 2, want: "-c zilla.yaml"},
	} {
		var out bytes.Buffer
		if code := execute(t.Context(), c.args, &out, &out, environment()); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: exit code %d: %s", c.args, code, &out)
		}
	}
}
