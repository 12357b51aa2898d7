package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// readyTimeout is for a start with a recovery, on a busy machine.
const readyTimeout = 90 * time.Second

// Instance is the program under test with its own state directory. Its methods are for one goroutine, which must end
// it with Kill at last.
type Instance struct {
	Name    string
	Binary  string
	Args    []string // of `run`, but for the state directory and the id
	Env     []string // added to the environment
	State   string   // directory
	LogFile string   // all starts append to it

	process *running
}

// running is one process.
type running struct {
	cmd    *exec.Cmd
	ready  chan struct{} // closed at the line "ready"
	exited chan struct{} // closed when the process has ended and its output is read
}

// ID is its instance id.
func (i *Instance) ID() string { return "chaos-" + i.Name }

// Start starts the process and does not wait until it is ready.
func (i *Instance) Start() error {
	log, err := os.OpenFile(i.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("instance %s: %w", i.Name, err)
	}
	c := exec.Command(i.Binary, append([]string{"run", "--state-dir", i.State, "--instance-id", i.ID(),
		"--admin-addr", "127.0.0.1:0"}, i.Args...)...)
	c.Env = append(os.Environ(), i.Env...)
	c.SysProcAttr = childAttributes()
	output, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("instance %s: %w", i.Name, err), log.Close())
	}
	r := &running{cmd: c, ready: make(chan struct{}), exited: make(chan struct{})}
	i.process = r
	go func() { // ends with the process; Kill and Terminate wait for it
		defer close(r.exited)
		var once sync.Once
		lines := bufio.NewReader(output)
		for {
			line, err := lines.ReadString('\n')
			_, _ = io.WriteString(log, line) // the log is for people, a run does not depend on it
			if strings.HasPrefix(line, "ready") {
				once.Do(func() { close(r.ready) })
			}
			if err != nil {
				break
			}
		}
		_ = c.Wait() // how it ended is what the caller asked for, or in its log
		fmt.Fprintf(log, "-- %s\n", c.ProcessState)
		_ = log.Close()
	}()
	return nil
}

// WaitReady waits until the process is ready.
func (i *Instance) WaitReady() error {
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case <-i.process.ready:
		return nil
	case <-i.process.exited:
		return fmt.Errorf("instance %s ended before it was ready: %s", i.Name, i.process.cmd.ProcessState)
	case <-timeout.C:
		return fmt.Errorf("instance %s was not ready within %v", i.Name, readyTimeout)
	}
}

// Ended reports whether the process has ended by itself.
func (i *Instance) Ended() bool {
	select {
	case <-i.process.exited:
		return true
	default:
		return false
	}
}

// Signal sends a signal.
func (i *Instance) Signal(s os.Signal) error {
	if err := i.process.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("instance %s: %w", i.Name, err)
	}
	return nil
}

// Kill sends SIGKILL and waits for the end.
func (i *Instance) Kill() error {
	if i.process == nil {
		return nil
	}
	if err := i.Signal(os.Kill); err != nil {
		return err
	}
	<-i.process.exited
	return nil
}

// WaitEnd waits until the process has ended.
func (i *Instance) WaitEnd(patience time.Duration) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-i.process.exited:
		return nil
	case <-timeout.C:
		return fmt.Errorf("instance %s did not end within %v", i.Name, patience)
	}
}

// PID is the process id of the running process.
func (i *Instance) PID() int { return i.process.cmd.Process.Pid }

// Terminate sends a signal for an orderly stop and waits for it. The exit code must be 0.
func (i *Instance) Terminate(s os.Signal, patience time.Duration) error {
	if err := i.Signal(s); err != nil {
		return err
	}
	if err := i.WaitEnd(patience); err != nil {
		return fmt.Errorf("after %v: %w", s, err)
	}
	if code := i.process.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("instance %s ended an orderly stop with %s", i.Name, i.process.cmd.ProcessState)
	}
	return nil
}
