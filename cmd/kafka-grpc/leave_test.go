package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"kafkagrpc/internal/statedir"
)

func TestLeave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state, err := statedir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	for _, test := range []struct {
		args []string
		env  func(string) (string, bool)
		code int
		says string
	}{
		{nil, environment(), exitUsage, "--state-dir is missing"},
		{[]string{"now"}, environment(), exitUsage, "unexpected argument"},
		{[]string{"--state-dir", filepath.Join(dir, "other")}, environment(), exitFailure, "no state directory"},
		{nil, environment("KAFKA_GRPC_STATE_DIR", dir), exitOK, "when it is stopped"},
	} {
		if state.Leaves() {
			t.Errorf("it leaves before leave %q", test.args)
		}
		var stdout, stderr bytes.Buffer
		code := execute(context.Background(), append([]string{"leave"}, test.args...), &stdout, &stderr, test.env)
		if said := stdout.String() + stderr.String(); code != test.code || !strings.Contains(said, test.says) {
			t.Errorf("leave %q: exit code %d, %q; want %d and %q", test.args, code, said, test.code, test.says)
		}
	}
	if !state.Leaves() {
		t.Error("it does not leave")
	}
}
