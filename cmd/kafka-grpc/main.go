// Command kafka-grpc lets Kafka topics call gRPC services and gRPC clients call through Kafka, as a zilla.yaml says.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	// The public certificate authorities, for systems that have none of their own, such as the container image.
	_ "golang.org/x/crypto/x509roots/fallback"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	// A second signal is not caught: it ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr, os.LookupEnv))
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// execute runs one command line and answers its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	root := newRoot(env)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "kafka-grpc: %v\nrun `kafka-grpc --help` for the commands and flags\n", err)
		return exitUsage
	default:
		fmt.Fprintln(stderr, "kafka-grpc:", err)
		return exitFailure
	}
}

func newRoot(env func(string) (string, bool)) *cobra.Command {
	root := &cobra.Command{
		Use:   "kafka-grpc",
		Short: "Call gRPC services from Kafka topics, and through Kafka from gRPC clients",
		Long: `kafka-grpc reads a zilla.yaml. Requests on its request topics become gRPC calls, and the replies are written to the reply
topic under the same correlation id. A request whose idempotency key has already been processed gets the stored reply
without being executed again. On the other side, gRPC clients call through Kafka as if it were the service.

Every flag can be set by an environment variable KAFKA_GRPC_<FLAG>, such as KAFKA_GRPC_BROKERS.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			return flagsFromEnvironment(c.Flags(), env)
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRunCommand(env), newCheckCommand(env), newSchemaCommand(), newDemoCommand(), newDeadLettersCommand(env), newLeaveCommand(),
		newResetCommand(env),
		newKeysCommand(env), newViewsCommand(env), newHealthCommand(), newEchoCommand(), newVersionCommand())
	return root
}

// commandsOnly makes c a command that does nothing but through its own commands.
func commandsOnly(c *cobra.Command, names string, own ...*cobra.Command) *cobra.Command {
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q of %s: it is %s", args[0], c.Name(), names)}
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(own...)
	return c
}

// noArguments refuses positional arguments as a usage error.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// flagsFromEnvironment sets the flags that the command line did not.
func flagsFromEnvironment(flags *pflag.FlagSet, env func(string) (string, bool)) error {
	var problems []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "KAFKA_GRPC_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := env(name)
		if !ok || f.Changed || f.Name == "help" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	})
	if err := errors.Join(problems...); err != nil {
		return usageError{err}
	}
	return nil
}

// newLog writes text to a terminal and JSON elsewhere.
func newLog(w io.Writer, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String()) // JSON would have nanoseconds, without saying so
		}
		return a
	}}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return slog.New(slog.NewTextHandler(w, options))
		}
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
