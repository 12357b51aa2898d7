package realkafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	readyTimeout = 60 * time.Second
	readyPoll    = 50 * time.Millisecond
	stopTimeout  = 20 * time.Second
)

// broker is one node that is broker and controller, as a child process.
type broker struct {
	lib  string // directory of jars
	dir  string // server.properties, data and logs
	port int    // the controller has the next one

	lasting bool // Options.Lasting

	listeners map[string]int // ports of Options.Listeners

	process *exec.Cmd
	exited  chan struct{} // closed when the process has ended
}

// newBroker writes a configuration and formats the storage.
func newBroker(ctx context.Context, lib, dir string, o Options) (*broker, error) {
	port, err := FreePorts()
	if err != nil {
		return nil, err
	}
	b := &broker{lib: lib, dir: dir, port: port, lasting: o.Lasting, listeners: map[string]int{}}
	listeners := fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", port, port+1)
	protocols := "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL"
	for name, protocol := range o.Listeners {
		if b.listeners[name], err = b.freeListener(); err != nil {
			return nil, err
		}
		listeners += fmt.Sprintf(",%s://127.0.0.1:%d", strings.ToUpper(name), b.listeners[name])
		protocols += fmt.Sprintf(",%s:%s", strings.ToUpper(name), protocol)
	}
	all := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  "1",
		"controller.quorum.voters":                 "1@127.0.0.1:" + strconv.Itoa(port+1),
		"controller.listener.names":                "CONTROLLER",
		"listeners":                                listeners,
		"listener.security.protocol.map":           protocols,
		"log.dirs":                                 filepath.Join(dir, "data"),
		"num.partitions":                           "1",
		"auto.create.topics.enable":                "false",
		"offsets.topic.replication.factor":         "1",
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
		"transaction.state.log.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":         "0",
		"group.min.session.timeout.ms":             "1000",
	}
	maps.Copy(all, o.Properties)
	var file strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&file, "%s=%s\n", name, all[name])
	}
	if err := os.WriteFile(b.configuration(), []byte(file.String()), 0o600); err != nil {
		return nil, fmt.Errorf("writing Kafka's configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	out, err := b.java(ctx, "kafka.tools.StorageTool", "format", "-t", "kafka-grpc-e2e-node-01", "-c", b.configuration()).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("formatting Kafka's storage: %w\n%s", err, out)
	}
	return b, nil
}

// FreePorts finds two ports in a row that nobody has. They are below those that systems take for outgoing connections: a client that
// tries to reach a crashed broker must not get, by chance, the broker's own port.
func FreePorts() (int, error) {
	var problems []error
	for range 100 {
		port := 20000 + 2*rand.IntN(5000)
		err := errors.Join(free(port), free(port+1))
		if err == nil {
			return port, nil
		}
		problems = append(problems, err)
	}
	return 0, fmt.Errorf("finding two free ports: %w", errors.Join(problems...))
}

// freeListener finds a port that no listener of the broker has yet.
func (b *broker) freeListener() (int, error) {
	for {
		port, err := FreePorts()
		if err != nil {
			return 0, err
		}
		taken := slices.Collect(maps.Values(b.listeners))
		if port != b.port && port != b.port+1 && !slices.Contains(taken, port) {
			return port, nil
		}
	}
}

func free(port int) error {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return err
	}
	return l.Close()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (b *broker) configuration() string { return filepath.Join(b.dir, "server.properties") }
func (b *broker) logFile() string       { return filepath.Join(b.dir, "broker.log") }

// java runs a main class. The flags favour a quick start over a quick broker, unless it is to last.
func (b *broker) java(ctx context.Context, args ...string) *exec.Cmd {
	flags := []string{"-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
	if b.lasting {
		flags = []string{"-Xms256m", "-Xmx1g"}
	}
	c := exec.CommandContext(ctx, "java", slices.Concat(flags, []string{"-cp", filepath.Join(b.lib, "*")}, args)...)
	c.SysProcAttr = childAttributes()
	return c
}

// start runs the broker and waits until it answers.
func (b *broker) start(ctx context.Context) error {
	if b.running() {
		return errors.New("the broker runs already")
	}
	log, err := os.OpenFile(b.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening Kafka's log: %w", err)
	}
	// Not bound to ctx: the broker outlives its start.
	c := b.java(context.WithoutCancel(ctx), "kafka.Kafka", b.configuration())
	c.Stdout, c.Stderr = log, log
	if err := errors.Join(c.Start(), log.Close()); err != nil {
		return fmt.Errorf("starting Kafka: %w", err)
	}
	b.process, b.exited = c, make(chan struct{})
	go func(exited chan struct{}) {
		defer close(exited)
		_ = c.Wait() // how it ended is in its log, or was asked for
	}(b.exited)
	if err := b.ready(ctx); err != nil {
		return errors.Join(err, b.kill())
	}
	return nil
}

// ready waits until the broker counts itself among the brokers of its cluster: from then on it takes all requests.
func (b *broker) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(address(b.port)))
	if err != nil {
		return fmt.Errorf("waiting for Kafka: %w", err)
	}
	defer client.Close()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		// Dialed first, as the client waits longer and longer after each failure.
		if connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address(b.port)); err == nil {
			_ = connection.Close() // it has carried nothing
			request := kmsg.NewPtrMetadataRequest()
			request.Topics = []kmsg.MetadataRequestTopic{}
			if answer, err := request.RequestWith(ctx, client); err == nil && len(answer.Brokers) > 0 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-b.exited:
			return errors.New("the broker ended while it started")
		case <-ctx.Done():
			return fmt.Errorf("waiting for Kafka on %s: %w", address(b.port), ctx.Err())
		}
	}
}

func (b *broker) running() bool {
	if b.process == nil {
		return false
	}
	select {
	case <-b.exited:
		return false
	default:
		return true
	}
}

// kill ends the process as a crash does.
func (b *broker) kill() error {
	if !b.running() {
		return nil
	}
	if err := b.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing Kafka: %w", err)
	}
	<-b.exited
	return nil
}

// stop lets the broker end in order, for a while.
func (b *broker) stop() error {
	if !b.running() {
		return nil
	}
	if err := b.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping Kafka: %w", err)
	}
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-b.exited:
		return nil
	case <-timeout.C:
		return b.kill()
	}
}

// logged are the last lines of the broker's log.
func (b *broker) logged(lines int) string {
	text, err := os.ReadFile(b.logFile())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
