package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// folder is what is checked.
const folder = "../../deploy"

// program builds the program once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kafka-grpc-deploy-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kafka-grpc")
	c := exec.Command("go", "build", "-o", path, "./cmd/kafka-grpc")
	c.Dir = "../.."
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", c, err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// run runs the program to its end.
func run(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c := exec.CommandContext(t.Context(), path, args...)
	c.Env, c.Stdout, c.Stderr = append(os.Environ(), env...), &out, &errs
	err = c.Run()
	return out.String(), errs.String(), err
}

// takes checks that the program takes a command line and the variables of its environment. With --help it does nothing else,
// and still refuses flags that it does not know; variables that are no flag it would overlook.
func takes(t *testing.T, env map[string]string, args ...string) {
	t.Helper()
	var pairs []string
	for name, value := range env {
		pairs = append(pairs, name+"="+value)
	}
	help, stderr, err := run(t, pairs, append(args, "--help")...)
	if err != nil {
		t.Errorf("kafka-grpc %s: %v: %s", strings.Join(args, " "), err, stderr)
		return
	}
	if !strings.Contains(help, "kafka-grpc "+args[0]) {
		t.Errorf("kafka-grpc %s is no command", args[0])
	}
	for name := range env {
		flag, ours := strings.CutPrefix(name, "KAFKA_GRPC_")
		if ours && !regexp.MustCompile(`--`+strings.ToLower(strings.ReplaceAll(flag, "_", "-"))+`[^\w-]`).MatchString(help) {
			t.Errorf("%s: kafka-grpc %s has no such flag", name, args[0])
		}
	}
}
