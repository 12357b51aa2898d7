package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
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
