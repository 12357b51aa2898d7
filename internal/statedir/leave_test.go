package statedir_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"kafkagrpc/internal/statedir"
)

func TestLeave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := statedir.Leave(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("of what is no state folder: %v", err)
	}
	d := open(t, dir)
	if d.Leaves() {
		t.Error("it leaves without being told to")
	}
	for range 2 {
		if err := statedir.Leave(dir); err != nil {
			t.Fatal(err)
		}
		if !d.Leaves() {
			t.Error("it does not leave")
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := statedir.Leave(dir); err == nil || !strings.Contains(err.Error(), "no instance runs with the state directory "+dir) {
		t.Errorf("of an instance that is gone: %v", err)
	}
	if open(t, dir).Leaves() {
		t.Error("one that has come back leaves, too")
	}
}
