package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/deadletter"
)

// withEditor makes a program the editor: a script of a shell, for which $1 is the file. What it saw is in the folder that is answered.
func (b *lettersBench) withEditor(script string) (seen string) {
	b.t.Helper()
	seen = b.t.TempDir()
	path := filepath.Join(seen, "an editor")
	head := "#!/bin/sh\nset -e\ncd '" + seen + "'\nn=$(ls | grep -c seen || true)\ncp \"$1\" seen.$n\nstat -c %a \"$1\" \"$(dirname \"$1\")\" > mode\necho \"$1\" > path\n"
	if err := os.WriteFile(path, []byte(head+script+"\n"), 0o700); err != nil {
		b.t.Fatal(err)
	}
	env := b.env
	b.env = func(name string) (string, bool) {
		if name == "EDITOR" {
			return "'" + path + "'", true
		}
		return env(name)
	}
	b.t.Cleanup(func() { b.env = env })
	return seen
}

func (b *lettersBench) read(path ...string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// gone fails the test if the file of the editor is still there.
func (b *lettersBench) gone(seen string) {
	b.t.Helper()
	path := strings.TrimSpace(b.read(seen, "path"))
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		b.t.Errorf("%s is left: %v", path, err)
	}
	if mode := b.read(seen, "mode"); mode != "600\n700\n" {
		b.t.Errorf("the modes of the file and its folder are %s", mode)
	}
}

// answer runs a command with what is typed on its terminal.
func (b *lettersBench) answer(typed string, args ...string) string {
	b.t.Helper()
	in := filepath.Join(b.t.TempDir(), "typed")
	if err := os.WriteFile(in, []byte(typed), 0o600); err != nil {
		b.t.Fatal(err)
	}
	file, err := os.Open(in)
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	var out bytes.Buffer
	root := newRoot(b.env)
	root.SetArgs(append([]string{"dead-letters", args[0], "-c", b.file, "--brokers", b.brokers}, args[1:]...))
	root.SetIn(file)
	root.SetOut(&out)
	root.SetErr(&out)
	if err := root.ExecuteContext(b.t.Context()); err != nil {
		out.WriteString(err.Error())
	}
	return out.String()
}

// A letter is mended in an editor, sent with what was not shown, and answered.
func TestDeadLetterIsEditedAndReplayed(t *testing.T) {
	b := newLettersBench(t)
	stop := b.run(b.file)
	defer stop()
	mistaken := requestRecord("mistaken", "nowhere")
	mistaken.Value = echoMessage("ho")
	b.produce(mistaken)
	letter := b.awaitLetters(1)[0].Letter

	seen := b.withEditor(`sed -i -e 's/: "nowhere"/: "echo-responses"/' -e 's/"ho"/"hi"/' "$1"`)
	b.unchanged("a dry run", func() {
		b.expect(b.command(0, "replay", "--edit", letter, "--dry-run"), letter+" would be edited and replayed to echo-requests\n1 would be replayed")
	})
	b.expect(b.command(0, "replay", letter, "--edit"), letter+" edited and replayed to echo-requests\n1 replayed, 0 were")
	b.gone(seen)
	text := b.read(seen, "seen.0")
	b.expect(text, `"value-message": {`, `"message": "ho"`, `"method": "grpc.examples.echo.Echo/UnaryEcho"`, `"reason": "reply topic \"nowhere\"`, `"masked": 1`)
	if strings.Contains(text, "hunter2") {
		t.Errorf("a credential is in the file: %s", text)
	}
	b.answered("echo-responses", "mistaken", 2)
	sent := b.last("echo-requests", 1)[0]
	headers := map[string]string{}
	for _, h := range sent.Headers {
		headers[h.Key] = string(h.Value)
	}
	partition, offset, _ := strings.Cut(letter, "@")
	for name, want := range map[string]string{
		"meta:authorization": "hunter2", "zilla:reply-to": "echo-responses", "kafkagrpc.edited.topic": lettersTopic, "kafkagrpc.edited.partition": partition,
		"kafkagrpc.edited.offset": offset,
	} {
		if headers[name] != want {
			t.Errorf("header %s is %q, not %q", name, headers[name], want)
		}
	}
	b.expect(b.command(0, "list"), "0 dead letters, and 1 that were replayed")
	b.unchanged("a second edit", func() {
		b.expect(b.command(0, "replay", "--edit", letter), "not replayed: it was at ", "0 replayed, 1 were")
	})
}

// last are the last records of a topic, by partition.
func (b *lettersBench) last(topic string, n int) []*kgo.Record {
	b.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for total := int(b.records(topic)); len(records) < total; {
		fetches := client.PollFetches(b.t.Context())
		if err := fetches.Err(); err != nil {
			b.t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records[len(records)-n:]
}

func TestDeadLetterThatIsNotSentAfterAll(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	if err := b.kafka.Cluster().CreateTopic(lettersTopic, 1, nil); err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Topic: lettersTopic, Key: []byte{0xff}, Value: []byte(`{"a": 1, "big": "` + strings.Repeat("x", 900_000) + `"}`)}
	for _, h := range (deadletter.Cause{Reason: "made", Topic: "echo-requests"}).Headers() {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	b.produce(r)
	const replayed = "1 replayed, 0 were replayed before"
	b.unchanged("an edit that is given up", func() {
		for _, tc := range []struct{ name, script, typed, want string }{
			{"unchanged", `true`, "", "not replayed: nothing was changed"},
			{"formatted anew", `tr -d '\n' < "$1" > new && cp new "$1"`, "", "not replayed: nothing was changed"},
			{"empty", `echo > "$1"`, "", "not replayed: the file is empty"},
			{"removed", `rm "$1"`, "", "no such file"},
			{"an editor that fails", `exit 3`, "", "not replayed: the editor"},
			{"a mistake, and nobody to ask", `echo '{' > "$1"`, "", "line 1, column 2: it ends too soon\nedit it again? [Y/n] not replayed: "},
			{"a mistake, and no", `echo '{}' > "$1"`, "n\n", "one of key, key-base64 is missing"},
			{"two mistakes, and no", `echo '{' >> "$1"`, "\nno\n", "something follows"},
		} {
			seen := b.withEditor(tc.script)
			if got := b.answer(tc.typed, "replay", "--edit", "0@0"); !strings.Contains(got, tc.want) || strings.Contains(got, "replayed,") {
				t.Errorf("%s: no %q in %s", tc.name, tc.want, got)
			}
			b.gone(seen)
		}
	})
	seen := b.withEditor(`if [ $n = 0 ]; then sed -i s/value-json/value-jsn/ "$1"; else sed -i -e s/value-jsn/value-json/ -e 's/"a": 1/"a": 2/' "$1"; fi`)
	b.expect(b.answer("yes\n", "replay", "--edit", "0@0"), `unknown field "value-jsn"`, replayed)
	b.gone(seen)
	if sent := b.last("echo-requests", 1)[0]; !bytes.Equal(sent.Key, r.Key) || !bytes.HasPrefix(sent.Value, []byte(`{"a":2,"big":"xxx`)) || len(sent.Value) != len(r.Value)-3 {
		t.Errorf("sent were the key %q and a value of %d bytes", sent.Key, len(sent.Value))
	}
	b.withEditor(`sed -i 's/x/xx/g' "$1"`)
	b.unchanged("a letter that has become too large", func() {
		b.expect(b.answer("", "replay", "--edit", "--force", "0@0"), "0@0 cannot be replayed: ", "0 replayed")
	})
}
