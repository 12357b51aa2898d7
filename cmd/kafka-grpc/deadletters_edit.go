package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"kafkagrpc/internal/deadletter"
)

// letterEditor lets a person edit letters in a program of theirs.
type letterEditor struct {
	command   string // as a shell takes it
	in        io.Reader
	out, errs io.Writer
}

func editorOf(env func(string) (string, bool)) string {
	visual, _ := env("VISUAL")
	editor, _ := env("EDITOR")
	return cmp.Or(visual, editor, "vi")
}

// edit opens a letter until it comes back without a mistake, or until it is given up.
func (e letterEditor) edit(ctx context.Context, draft *deadletter.Draft) (_ deadletter.Letter, err error) {
	none := deadletter.Letter{}
	text, err := draft.Text()
	if err != nil {
		return none, err
	}
	// A folder that nobody else may look into: editors put copies beside their files.
	dir, err := os.MkdirTemp("", "kafka-grpc-letter-")
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "letter.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return none, err
	}
	answers := bufio.NewReader(e.in)
	for {
		if err := e.open(ctx, path); err != nil {
			return none, err
		}
		after, err := os.ReadFile(path)
		switch {
		case err != nil:
			return none, err
		case bytes.Equal(after, text):
			return none, fmt.Errorf("not replayed: %w", deadletter.ErrUnchanged)
		case len(bytes.TrimSpace(after)) == 0:
			return none, errors.New("not replayed: the file is empty")
		}
		letter, err := draft.Read(after, time.Now())
		switch {
		case err == nil:
			return letter, nil
		case errors.Is(err, deadletter.ErrUnchanged):
			return none, fmt.Errorf("not replayed: %w", err)
		}
		if _, errPrint := fmt.Fprintf(e.errs, "%v\nedit it again? [Y/n] ", err); errPrint != nil {
			return none, errors.Join(err, errPrint)
		}
		answer, errAnswer := answers.ReadString('\n')
		if answer = strings.ToLower(strings.TrimSpace(answer)); errAnswer != nil || answer != "" && answer != "y" && answer != "yes" {
			return none, fmt.Errorf("not replayed: %w", err)
		}
	}
}

// open waits for the editor to end.
func (e letterEditor) open(ctx context.Context, path string) error {
	c := exec.CommandContext(ctx, "sh", "-c", e.command+` "$1"`, "sh", path)
	c.WaitDelay = time.Second
	c.Stdin, c.Stdout, c.Stderr = e.in, e.out, e.errs
	if err := c.Start(); err != nil {
		return fmt.Errorf("not replayed: starting the editor: %w", err)
	}
	// The terminal sends Ctrl-C to both, and the editor knows what it means in its text.
	signal.Ignore(os.Interrupt)
	defer signal.Reset(os.Interrupt)
	if err := c.Wait(); err != nil {
		return fmt.Errorf("not replayed: the editor %q: %w", e.command, errors.Join(ctx.Err(), err))
	}
	return ctx.Err()
}
