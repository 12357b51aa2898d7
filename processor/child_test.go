package processor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/processor"
	"kafkagrpc/topology"
)

// child is a processor in a process of its own, which can be killed and frozen.
type child struct {
	t     *testing.T
	dir   string
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // its log
	read  chan struct{}
	once  sync.Once
}

// childEnv holds the childConfig of a child.
const childEnv = "KAFKA_GRPC_TEST_CHILD"

type childConfig struct {
	Remote  topology.Remote
	Methods topology.Methods
	Dir     string
	Session time.Duration
}

// TestChildProcess is the child: it runs until its standard input ends.
func TestChildProcess(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		t.Skip("runs only in processes that other tests start")
	}
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	state, err := statedir.Open(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	client := grpcout.New(grpcout.Options{})
	p, err := processor.New(ctx, processor.Config{
		Remote: c.Remote, Methods: c.Methods, Client: client, State: state, SessionTimeout: c.Session,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Run(ctx), client.Close(), state.Close()); err != nil {
		t.Error(err)
	}
}

// startChild starts one. The session time-out is what the broker needs at least to see that it is gone; 0: the default.
func (b *testbench) startChild(t *testing.T, session time.Duration) *child {
	t.Helper()
	return b.startChildIn(t, t.TempDir(), session)
}

// startChildIn starts one in a state folder.
func (b *testbench) startChildIn(t *testing.T, dir string, session time.Duration) *child {
	t.Helper()
	c := &child{t: t, dir: dir, lines: make(chan string, 10_000), read: make(chan struct{})}
	text, err := json.Marshal(childConfig{b.remote, b.methods, c.dir, session})
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command(os.Args[0], "-test.run=^TestChildProcess$", "-test.timeout=5m")
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.read)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			t.Log("child:", s.Text())
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(c.kill)
	return c
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// kill ends it without any chance to tidy up, and waits.
func (c *child) kill() {
	c.once.Do(func() {
		_ = c.cmd.Process.Kill()
		<-c.read
		_ = c.cmd.Wait() // says that it was killed
	})
}

// says waits for a line of its log.
func (c *child) says(text string) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line := <-c.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-deadline:
			c.t.Fatalf("the child never said %q", text)
		}
	}
}
