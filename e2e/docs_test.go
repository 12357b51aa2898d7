package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/wire"
)

// documented are the commands that the pages show, each once, until they are executed.
type documented struct {
	*world
	path     string // where programs are found
	commands []documentedCommand
}

type documentedCommand struct{ where, text string }

// documentedCommands reads the lines that begin with a prompt in blocks of console text; a backslash goes on.
func documentedCommands(t *testing.T) (commands []documentedCommand) {
	t.Helper()
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append([]string{"../README.md"}, pages...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		inside, goesOn := false, false
		for i, line := range strings.Split(string(text), "\n") {
			line = strings.TrimSpace(line)
			switch command, prompt := strings.CutPrefix(line, "$ "); {
			case strings.HasPrefix(line, "```"):
				inside = line == "```console"
			case !inside:
			case goesOn:
				last := &commands[len(commands)-1]
				last.text += "\n" + line
				goesOn = strings.HasSuffix(line, `\`)
			case prompt:
				commands = append(commands, documentedCommand{fmt.Sprintf("%s:%d", filepath.Base(page), i+1), command})
				goesOn = strings.HasSuffix(command, `\`)
			}
		}
	}
	if len(commands) == 0 {
		t.Fatal("the documentation shows no commands")
	}
	return commands
}

// take removes the commands that begin with a text.
func (d *documented) take(prefix string) (taken []documentedCommand) {
	d.t.Helper()
	d.commands = slices.DeleteFunc(d.commands, func(c documentedCommand) bool {
		if strings.HasPrefix(c.text, prefix) {
			taken = append(taken, c)
			return true
		}
		return false
	})
	if len(taken) == 0 {
		d.t.Errorf("the documentation has no command %q any more", prefix)
	}
	return taken
}

// shell is one command, with the addresses of this test in place of those of the documentation.
func (d *documented) shell(dir, text string) *exec.Cmd {
	text = strings.NewReplacer("127.0.0.1:9092", d.kafka.Brokers()[0], "ECHO_SERVER_PORT=50051", "ECHO_SERVER_PORT="+portOf(d.addr), "/var/lib/kafka-grpc", d.state).Replace(text)
	c := exec.Command("bash", "-o", "pipefail", "-c", text)
	c.Dir = dir
	c.Env = append(os.Environ(), "PATH="+d.path+":"+os.Getenv("PATH"), "ECHO_SERVER_HOST=127.0.0.1", "ECHO_SERVER_PORT="+portOf(d.addr),
		"KEYSTORE_PASSWORD="+password, "KAFKA_GRPC_BROKERS="+d.kafka.Brokers()[0], "KAFKA_GRPC_LISTEN=127.0.0.1", "KAFKA_GRPC_STATE_DIR="+d.state,
		"KAFKA_GRPC_PPROF=true", "PPROF_TMPDIR="+d.state)
	return c
}

func portOf(address string) string { return address[strings.LastIndex(address, ":")+1:] }

// do executes the commands that begin with a text; all must end well. It answers what they printed.
func (d *documented) do(dir, prefix string) (printed string) {
	d.t.Helper()
	for _, c := range d.take(prefix) {
		out, errs, code := output(d.t, d.shell(dir, c.text))
		if code != 0 {
			d.t.Errorf("%s: $ %s\nexit code %d: %s%s", c.where, c.text, code, out, errs)
		}
		printed += out
	}
	return printed
}

// Every command that the documentation shows does what it says, in the order in which somebody would type them. What takes too
// long for that is at least there: the tasks are in the Taskfile, the benchmarks in their packages.
func TestDocumentedCommands(t *testing.T) {
	realkafka.Need(t)
	for _, program := range []string{"bash", "curl", "jq", "keytool"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("needs %s: %v", program, err)
			}
			t.Skipf("needs %s: %v", program, err)
		}
	}
	d := &documented{world: &world{t: t, state: t.TempDir()}, commands: documentedCommands(t)}
	d.kafka = realkafka.Start(t, realkafka.Options{})
	d.echo = start(t, exec.Command(binary(t, "echoservice")))
	d.addr = strings.TrimPrefix(d.echo.await("listening "), "listening ")
	tools := t.TempDir()
	binary(t, "grpcurl") // beside it
	d.path = filepath.Dir(binary(t, "kafka-grpc")) + ":" + tools
	groups := d.kafka.Tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand")
	shim := "#!/bin/sh\nexec '" + strings.Join(groups, "' '") + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(tools, "kafka-consumer-groups.sh"), []byte(shim), 0o755); err != nil {
		t.Fatal(err)
	}
	root := copyOfRepository(t)
	d.dir = filepath.Join(root, "my-proxy")
	d.create(8, nil, requestTopic, replyTopic)

	d.do(root, "go build -o kafka-grpc ./cmd/kafka-grpc")
	d.do(root, "cp -r internal/embedded/seed my-proxy")
	d.do(d.dir, "keytool -genkeypair")
	d.do(d.dir, "kafka-grpc check -c zilla.yaml --connect")
	d.do(d.dir, "kafka-grpc schema")
	if err := os.Symlink(filepath.Join(root, "kafka-grpc"), filepath.Join(d.dir, "kafka-grpc")); err != nil {
		t.Fatal(err)
	}
	d.do(d.dir, "./kafka-grpc check -c zilla.yaml")
	d.do(d.dir, "kafka-grpc reset -c zilla.yaml --dry-run")
	for _, c := range d.take("kafka-consumer-groups.sh") {
		if set, errs, code := output(t, d.shell(d.dir, c.text)); code != 0 || strings.Count(set, requestTopic) != 8 {
			t.Errorf("%s: exit code %d, and the offsets of 8 partitions are to be set, not\n%s%s", c.where, code, set, errs)
		}
	}

	d.take("./kafka-grpc run -c zilla.yaml") // the next one, without its flags
	run := start(t, d.shell(d.dir, d.take("ECHO_SERVER_HOST=127.0.0.1")[0].text))
	run.await("ready ")
	if reply := d.do(d.dir, "grpcurl -plaintext -H 'idempotency-key: 42'"); !strings.Contains(reply, `"message": "hi"`) {
		t.Errorf("the reply is %s", reply)
	}

	d.do(d.dir, "curl -s 127.0.0.1:7190/readyz")
	if goroutines := d.do(d.dir, "curl -s '127.0.0.1:7190/debug/pprof/goroutine"); !strings.Contains(goroutines, "goroutine profile: total") {
		t.Errorf("the goroutines are %s", goroutines)
	}
	d.do(d.dir, "go tool pprof http://127.0.0.1:7190/debug/pprof/heap")
	d.take("go tool pprof http://127.0.0.1:7190/debug/pprof/profile") // for half a minute; TestProfiles has a second of it
	ask := func(key string) {
		t.Helper()
		if out, errs, code := d.grpcurl(plainAddress, "-plaintext", "-H", "idempotency-key: "+key, "-d", `{"message":"hi"}`); code != 0 {
			t.Errorf("%s%s", out, errs)
		}
	}
	ask("order-42")
	events := start(t, d.shell(d.dir, d.take("curl -sN '127.0.0.1:7190/v1/keys:watch")[0].text))
	watch := d.take("kafka-grpc keys watch")[0].text
	watch, filter, _ := strings.Cut(watch, " | ")
	watched := start(t, d.shell(d.dir, watch))
	d.untilShown("order-42-132e6a3c3cd99bf490609dd2718acc8a")
	if row := d.do(d.dir, "kafka-grpc keys get order-42"); !strings.Contains(row, "order-42") {
		t.Errorf("the row is %s", row)
	}
	d.do(d.dir, "kafka-grpc keys list")
	d.do(d.dir, "kafka-grpc keys retry")
	d.do(d.dir, "curl -s '127.0.0.1:7190/v1/keys?status")
	d.do(d.dir, "grpcurl -plaintext -d '{\"filter\"")
	// Until the watchers have seen a change, as they may still be connecting.
	for n := 1; !strings.Contains(events.output(), "order-") || !strings.Contains(watched.output(), `"entry"`); n++ {
		if n > 1000 {
			t.Fatalf("the watchers see nothing:\n%s\n%s", events.output(), watched.output())
		}
		ask(fmt.Sprintf("order-%d", 1000+n))
	}
	change := d.shell(d.dir, filter)
	change.Stdin = strings.NewReader(watched.output())
	if out, errs, code := output(t, change); code != 0 || !strings.Contains(out, `"OK"`) {
		t.Errorf("%s: exit code %d: %s%s", filter, code, out, errs)
	}

	d.poison(2)
	run.awaitText(`"source":"echo-requests/1@`) // the log says where they were
	d.do(d.dir, "kafka-grpc dead-letters list")
	d.do(d.dir, "EDITOR=")
	d.do(d.dir, "kafka-grpc dead-letters replay")

	d.do(d.dir, "kafka-grpc leave")

	d.elsewhere(root)
	for _, c := range d.commands {
		t.Errorf("%s: this command is executed by no test; let this one do so: $ %s", c.where, c.text)
	}
}

// copyOfRepository is what a fresh clone has.
func copyOfRepository(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	source := os.DirFS("..")
	err := fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (path == ".git" || path == "bin"):
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(root, path), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := fs.ReadFile(source, path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root, path), content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// untilShown waits until the views know a key.
func (d *documented) untilShown(key string) {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		out, errs, code := output(d.t, d.shell(d.dir, "kafka-grpc keys get "+key))
		if code == 0 {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("key %s is not shown: %s%s", key, out, errs)
		}
	}
}

// poison makes dead letters of a reply topic that no route names on partition 1, and waits until they are there.
func (d *documented) poison(n int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := d.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	key := []byte("order-")
	for wire.Partition(key, 8) != 1 {
		key = append(key, '7')
	}
	headers := []kgo.RecordHeader{
		{Key: "zilla:service", Value: []byte("grpc.examples.echo.Echo")}, {Key: "zilla:method", Value: []byte("UnaryEcho")},
		{Key: "zilla:reply-to", Value: []byte("other-responses")}, {Key: "zilla:correlation-id", Value: key},
	}
	for range n {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: requestTopic, Partition: 1, Key: key, Headers: headers}).FirstErr(); err != nil {
			d.t.Fatal(err)
		}
	}
	d.records(group+"-dead-letters", n)
}

var benchmarks = regexp.MustCompile(`-bench '?([^' ]+)'?`)

// elsewhere are the commands that take too long here, and who executes them.
func (d *documented) elsewhere(root string) {
	d.t.Helper()
	d.take("go run ./cmd/kafka-grpc demo") // task demo-once
	d.take(".ci/run")                      // this test is a part of it
	d.take("kubectl apply")                // the manifests are checked by their own tests
	d.take("kubectl exec kafka-grpc-2")    // TestScaleDown does it without Kubernetes
	d.take("kubectl scale")
	d.take("docker compose") // so is the compose file
	d.take("printf")         // these three by TestKcat
	d.take("kcat -P")
	d.take("kcat -C")
	tasks, err := os.ReadFile(filepath.Join(root, "Taskfile.yml"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range d.take("task ") {
		if name := strings.Fields(c.text)[1]; !strings.Contains(string(tasks), "\n  "+name+":\n") {
			d.t.Errorf("%s: the Taskfile has no task %s", c.where, name)
		}
	}
	for _, c := range append(d.take("go test "), d.take("KAFKA_GRPC_E2E=1 go test ")...) {
		pattern := benchmarks.FindStringSubmatch(c.text)
		pkg := regexp.MustCompile(` \./\S+`).FindString(c.text)
		if pattern == nil || pkg == "" {
			d.t.Errorf("%s: this is no benchmark: %s", c.where, c.text)
			continue
		}
		for _, name := range strings.Split(pattern[1], "|") {
			list := exec.Command("go", "test", "-list", "Benchmark.*"+name, strings.TrimSpace(pkg))
			list.Dir = root
			if out, errs, code := output(d.t, list); code != 0 || !strings.Contains(out, "Benchmark") {
				d.t.Errorf("%s: package%s has no benchmark %s: %s%s", c.where, pkg, name, out, errs)
			}
		}
	}
}
