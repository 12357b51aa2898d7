package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkagrpc/internal/embedded"
)

// The examples are right, as check sees them. They are run on a real Kafka in e2e.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no example found", err)
	}
	env := environment("ORDERS_HOST", "orders", "ORDERS_PORT", "50051")
	for _, file := range files {
		var out, errs bytes.Buffer
		shows := "shop.v1.Orders/Place"
		if filepath.Base(file) == "fanout.yaml" {
			shows = "example.FanoutService/FanoutServerStream  <- messages  read"
		}
		if code := execute(t.Context(), []string{"check", "-c", file}, &out, &errs, env); code != exitOK || !strings.Contains(out.String(), shows) {
			t.Errorf("%s: exit code %d: %s%s", file, code, &errs, &out)
		}
	}
}

// Examples that need a keystore are right with one.
func TestExamplesWithoutKafka(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../deploy/examples")); err != nil {
		t.Fatal(err)
	}
	env := environment("ECHO_SERVER_HOST", "echo", "ECHO_SERVER_PORT", "50051", "KEYSTORE_PASSWORD", "changeit")
	for name, shows := range map[string]string{"proxy": "http://echo:50051", "echo": "echo://north_echo_server"} {
		if err := embedded.WriteSeed(filepath.Join(dir, "seed"), "changeit"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "seed", "tls"), filepath.Join(dir, name, "tls")); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if code := execute(t.Context(), []string{"check", "-c", filepath.Join(dir, name, "zilla.yaml")}, &out, &errs, env); code != exitOK || !strings.Contains(out.String(), shows) {
			t.Errorf("%s: exit code %d: %s%s", name, code, &errs, &out)
		}
	}
}
