package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/wire"
)

const (
	patience = 60 * time.Second
	password = "changeit"

	requestTopic = "echo-requests"
	replyTopic   = "echo-responses"
	group        = "example-west_kafka_grpc_remote_server"
	echo         = "grpc.examples.echo.Echo"
	plainAddress = "127.0.0.1:7151"
	tlsAddress   = "127.0.0.1:7153"

	grpcurlModule = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
	ghzModule     = "github.com/bojand/ghz/cmd/ghz@v0.93.0"
)

// binaries are built once for all tests, each when it is first asked for.
var binaries struct {
	mu    sync.Mutex
	dir   string
	built map[string]bool
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		if err := os.RemoveAll(binaries.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// builds are the commands that users build the binaries with, but for where to.
var builds = map[string][]string{
	"kafka-grpc":  {"build", "-trimpath", "-ldflags=-s -w", "-o", "kafka-grpc", "kafkagrpc/cmd/kafka-grpc"},
	"echoservice": {"build", "-o", "echoservice", "kafkagrpc/e2e/echoservice"},
	"floor":       {"build", "-o", "floor", "kafkagrpc/e2e/floor"},
	"grpcurl":     {"install", grpcurlModule},
	"ghz":         {"install", ghzModule},
}

// binary is the path of one of builds.
func binary(t testing.TB, name string) string {
	t.Helper()
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "kafka-grpc-e2e-")
		if err != nil {
			t.Fatal(err)
		}
		binaries.dir, binaries.built = dir, map[string]bool{}
	}
	path := filepath.Join(binaries.dir, name)
	if binaries.built[name] {
		return path
	}
	args := slices.Clone(builds[name])
	if i := slices.Index(args, "-o"); i >= 0 {
		args[i+1] = path
	}
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), "GOBIN="+binaries.dir, "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	binaries.built[name] = true
	return path
}

// world is a real Kafka, the echo service, and the seed's configuration.
type world struct {
	t     testing.TB
	kafka *realkafka.Kafka
	echo  *process
	addr  string // of the echo service
	dir   string // of zilla.yaml
	state string
}

func newWorld(t testing.TB, echoFlags ...string) *world {
	t.Helper()
	return newWorldOn(t, realkafka.Options{}, echoFlags...)
}

func newWorldOn(t testing.TB, o realkafka.Options, echoFlags ...string) *world {
	t.Helper()
	realkafka.Need(t)
	w := &world{t: t, dir: t.TempDir(), state: t.TempDir()}
	w.kafka = realkafka.Start(t, o)
	binary(t, "kafka-grpc") // so that nobody measures how long it is built
	w.echo = start(t, exec.Command(binary(t, "echoservice"), echoFlags...))
	w.addr = strings.TrimPrefix(w.echo.await("listening "), "listening ")
	writeSeed(t, w.dir)
	return w
}

// writeSeed writes the seed's files as they are, and a keystore as Java makes it.
func writeSeed(t testing.TB, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, embedded.Seed()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tls"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("keytool", "-genkeypair", "-alias", "localhost", "-keyalg", "EC", "-dname", "CN=localhost",
		"-ext", "san=dns:localhost,ip:127.0.0.1", "-validity", "30", "-storetype", "PKCS12",
		"-keystore", filepath.Join(dir, "tls", "localhost.p12"), "-storepass", password).CombinedOutput()
	if err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
}

// command is kafka-grpc with the environment that the seed's file asks for.
func (w *world) command(args ...string) *exec.Cmd {
	w.t.Helper()
	host, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	c := exec.Command(binary(w.t, "kafka-grpc"), args...)
	c.Env = append(os.Environ(), "ECHO_SERVER_HOST="+host, "ECHO_SERVER_PORT="+port, "KEYSTORE_PASSWORD="+password,
		"KAFKA_GRPC_BROKERS="+strings.Join(w.kafka.Brokers(), ","), "KAFKA_GRPC_ADMIN_ADDR=127.0.0.1:0")
	return c
}

// run starts the configuration and waits until it is ready.
func (w *world) run(args ...string) *process {
	w.t.Helper()
	all := append([]string{"run", "-c", filepath.Join(w.dir, "zilla.yaml"), "--listen", "127.0.0.1", "--state-dir", w.state}, args...)
	p := start(w.t, w.command(all...))
	p.await("ready ")
	return p
}

// createTopics makes the request and reply topics, as an operator would.
func (w *world) createTopics(partitions int32) {
	w.t.Helper()
	w.create(partitions, nil, requestTopic, replyTopic)
}

// create makes topics and waits until the broker shows them: the controller knows them first.
func (w *world) create(partitions int32, configs map[string]*string, topics ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	admin := kadm.NewClient(w.client())
	responses, err := admin.CreateTopics(ctx, partitions, 1, configs, topics...)
	if err == nil {
		err = responses.Error()
	}
	for shown := false; err == nil && !shown; {
		var details kadm.TopicDetails
		if details, err = admin.ListTopics(ctx, topics...); err == nil {
			shown = details.Error() == nil
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) client(options ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.kafka.Brokers()...)}, options...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(client.Close)
	return client
}

// records reads the first n committed records of a topic.
func (w *world) records(topic string, n int) []wire.Record {
	w.t.Helper()
	client := w.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out []wire.Record
	for len(out) < n {
		fetches := client.PollRecords(ctx, n-len(out))
		if ctx.Err() != nil {
			w.t.Fatalf("topic %s has %d records, not %d", topic, len(out), n)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			r := wire.Record{Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Key: k.Key, Value: k.Value, Timestamp: k.Timestamp}
			for _, h := range k.Headers {
				r.Headers = append(r.Headers, wire.Header{Name: h.Key, Value: h.Value})
			}
			out = append(out, r)
		})
	}
	return out
}

// process is a child process whose output is read line by line.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser

	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced at each line and at the end
	ended   bool
	err     error // of Wait
}

func start(t testing.TB, c *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: c, changed: make(chan struct{})}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = write
	if c.Stdout == nil { // nobody else takes it
		c.Stdout = write
	}
	if p.stdin, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	// A test that is killed takes its children along.
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(read)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.update(func() { p.lines = append(p.lines, lines.Text()) })
		}
		err := errors.Join(c.Wait(), read.Close())
		p.update(func() { p.ended, p.err = true, err })
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(c.Path), p.output())
		}
	})
	return p
}

func (p *process) update(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// until waits for a condition on the lines so far.
func (p *process) until(what string, condition func(lines []string, ended bool) bool) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		done, ended, changed := condition(p.lines, p.ended), p.ended, p.changed
		p.mu.Unlock()
		if done {
			return
		}
		if ended {
			p.t.Fatalf("%s ended before %s: %v\n%s", filepath.Base(p.cmd.Path), what, p.err, p.output())
		}
		select {
		case <-changed:
		case <-deadline:
			p.t.Fatalf("%s: not within %s: %s\n%s", filepath.Base(p.cmd.Path), patience, what, p.output())
		}
	}
}

// await waits for a line that begins with prefix, and answers it.
func (p *process) await(prefix string) (line string) {
	p.t.Helper()
	p.until("a line "+prefix, func(lines []string, _ bool) bool {
		for _, line = range lines {
			if strings.HasPrefix(line, prefix) {
				return true
			}
		}
		return false
	})
	return line
}

// awaitText waits for a line that contains text.
func (p *process) awaitText(text string) {
	p.t.Helper()
	p.until("a line with "+text, func(lines []string, _ bool) bool {
		return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, text) })
	})
}

// count is how many lines begin with prefix.
func (p *process) count(prefix string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return countLines(p.lines, prefix)
}

func countLines(lines []string, prefix string) (n int) {
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// open lets the calls pass that the echo service holds at its gate, from now on.
func (p *process) open() {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, "open\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait answers the exit code, -1 for a signal.
func (p *process) wait() int {
	p.t.Helper()
	p.until("its end", func(_ []string, ended bool) bool { return ended })
	return p.cmd.ProcessState.ExitCode()
}

// kill sends SIGKILL and waits for the end.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
	p.until("its end", func(_ []string, ended bool) bool { return ended })
}

// output runs a command to its end and answers what it printed and its exit code.
func output(t testing.TB, c *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	return outputWithin(t, patience, c)
}

func outputWithin(t testing.TB, most time.Duration, c *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Process.Kill() })
	defer stop()
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// grpcurl calls UnaryEcho.
func (w *world) grpcurl(address string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	all := append([]string{"-max-time", "30", "-import-path", filepath.Join(w.dir, "proto"), "-proto", "echo.proto"}, args...)
	return output(w.t, exec.Command(binary(w.t, "grpcurl"), append(all, address, echo+"/UnaryEcho")...))
}
