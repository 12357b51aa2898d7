package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What the README shows of the demo is what it prints, and what it suggests then works.
func TestDemoOfEvents(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := newOutput(), newOutput()
	code := make(chan int, 1)
	go func() { code <- execute(ctx, []string{"demo", "events"}, stdout, stderr, environment()) }()
	stdout.await(t, "The page of this instance")
	asInREADME(t, stdout.String())
	suggested := regexp.MustCompile(`(?s)echo '(.*?)' \| kcat -P -b (\S+) -t (\S+) -k me -H event-id=(\S+)\n.* dead-letters list -c (\S+)\n.* --edit (\S+) `).
		FindStringSubmatch(stdout.String())
	if suggested == nil {
		t.Fatalf("it suggests %s", stdout)
	}
	value, broker, topic, id, file, letter := suggested[1], suggested[2], suggested[3], suggested[4], suggested[5], suggested[6]
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := &kgo.Record{Topic: topic, Key: []byte("me"), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "event-id", Value: []byte(id)}}}
	if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) string {
		var out bytes.Buffer
		if code := execute(t.Context(), append([]string{"dead-letters", args[0], "-c", file}, args[1:]...), &out, &out, environment("EDITOR", "sed -i s/massage/message/")); code != 0 {
			t.Fatalf("exit code %d of %q: %s", code, args, &out)
		}
		return out.String()
	}
	deadline := time.Now().Add(patience)
	for !strings.Contains(command("list", "--method", "UnaryEcho", "--reason", "event_value"), letter+" ") {
		if time.Now().After(deadline) {
			t.Fatalf("no letter %s", letter)
		}
	}
	if out := command("replay", "--edit", letter); !strings.HasPrefix(out, letter+" edited and replayed to "+topic) {
		t.Error(out)
	}
	if out := command("list", "--all"); !strings.Contains(out, "2 dead letters") || !strings.Contains(out, "grpc.examples.echo.Echo/UnaryEcho") {
		t.Error(out)
	}
	cancel()
	if c := <-code; c != 0 || stderr.String() != "" {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}

// asInREADME compares what was printed with the block that shows it: lines of three dots stand for any.
func asInREADME(t *testing.T, printed string) {
	t.Helper()
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "```\nJSON events on a topic")
	block, _, closed := strings.Cut("JSON events on a topic"+block, "```")
	if !found || !closed {
		t.Fatal("the README does not show the demo")
	}
	ports := regexp.MustCompile(`127\.0\.0\.1:\d+`)
	printed, block = ports.ReplaceAllString(printed, "127.0.0.1"), ports.ReplaceAllString(block, "127.0.0.1")
	for _, part := range regexp.MustCompile(`(?m)^ *\.\.\.\n`).Split(block, -1) {
		_, after, ok := strings.Cut(printed, part)
		if !ok {
			t.Fatalf("the README shows\n%s\nand the demo prints\n%s", part, printed)
		}
		printed = after
	}
}
