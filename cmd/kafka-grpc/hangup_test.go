package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"kafkagrpc/internal/embedded"
)

// A SIGHUP that somebody does not take ends this process, and the test with it. Not parallel: it reaches all that run.
func TestHangupEndsNothing(t *testing.T) {
	b := newLettersBench(t)
	keystore := filepath.Join(filepath.Dir(b.file), "tls", "localhost.p12")
	commands := []struct {
		name string
		args []string
		says string
	}{
		{"run", []string{"run", "-c", b.file, "--brokers", b.kafka.Brokers()[0], "--listen", "127.0.0.1", "--state-dir", b.state, "--admin-addr", "off", "--watch-config=off"}, "certificates or other TLS of"},
		{"views", []string{"views", "-c", b.file, "--brokers", b.kafka.Brokers()[0], "--state-dir", t.TempDir(), "--admin-addr", "127.0.0.1:0"}, "another configuration takes a restart"},
		{"echo", []string{"echo", "--listen", "127.0.0.1:0"}, "nothing to read again"},
	}
	for _, command := range commands {
		t.Run(command.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stderr := newOutput()
			code := make(chan int, 1)
			go func() { code <- execute(ctx, command.args, newOutput(), stderr, b.env) }()
			stderr.await(t, "ready")
			if command.name == "run" {
				// It is read without a connection that asks for it.
				other := t.TempDir()
				if err := embedded.WriteSeed(other, "changeit"); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(filepath.Join(other, "tls", "localhost.p12"), keystore); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			stderr.await(t, command.says)
			if command.name == "run" {
				stderr.await(t, "new connections get another certificate")
			}
			cancel()
			if c := <-code; c != 0 {
				t.Errorf("exit code %d: %s", c, stderr)
			}
		})
	}
}
