package history_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/e2e/chaos/history"
)

func TestRecorderKeepsEvents(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	r, err := history.NewRecorder(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []history.Event{
		{At: time.UnixMilli(1).UTC(), Kind: history.Sent, Key: "k", Attempt: "a", Topic: "t", Partition: 2, Offset: 7, Written: time.UnixMilli(1).UTC()},
		{At: time.UnixMilli(2).UTC(), Kind: history.Fault, Fault: history.Kill, Instance: "0", From: time.UnixMilli(1).UTC(), To: time.UnixMilli(2).UTC()},
	}
	for _, e := range want {
		r.Record(e)
	}
	if diff := cmp.Diff(want, r.Events()); diff != "" {
		t.Errorf("in memory: %s", diff)
	}
	if diff := cmp.Diff(want[1:], r.Since(1)); diff != "" {
		t.Errorf("since the second: %s", diff)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read, err := history.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read); diff != "" {
		t.Errorf("read back: %s", diff)
	}
}
