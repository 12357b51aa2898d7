package statedir_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kafkagrpc/internal/disktest"
	"kafkagrpc/internal/statedir"
)

func TestDirHasOneOwner(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	first := open(t, dir)
	_, err := statedir.Open(dir)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("opening it again: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

// The results of calls are in it.
func TestDirIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	open(t, dir)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, want 0700", info.Mode().Perm())
	}
}

func TestInstanceIDStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := open(t, dir)
	id := instanceID(t, first)
	if again := instanceID(t, first); id == "" || again != id {
		t.Errorf("the id is %q, then %q", id, again)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if again := instanceID(t, open(t, dir)); again != id {
		t.Errorf("the id is %q, then %q", id, again)
	}
	if other := instanceID(t, open(t, t.TempDir())); other == id {
		t.Errorf("two instances have the id %q", id)
	}
}

func TestEmptyInstanceIDIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "instance-id"), []byte("\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if id := instanceID(t, open(t, dir)); id == "" {
		t.Error("the id is empty")
	}
}

func TestDirThatCannotBeMade(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := statedir.Open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as state directory: %v", err)
	}
}

// An owner who was there before takes no more space.
func TestDirOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := disktest.New(t, "1")
	first := open(t, disk.Dir)
	id := instanceID(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Fill()
	again := open(t, disk.Dir)
	if got := instanceID(t, again); got != id {
		t.Errorf("the id is %q, then %q", id, got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(disk.Dir, "fresh")
	if _, err := statedir.Open(fresh); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the folder "+fresh) ||
		!strings.Contains(err.Error(), "make space there") {
		t.Errorf("a new folder: %v", err)
	}
	disk.ReadOnly()
	if _, err := statedir.Open(disk.Dir); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount it to be written") {
		t.Errorf("a read-only disk: %v", err)
	}
}

func open(t *testing.T, dir string) *statedir.Dir {
	t.Helper()
	d, err := statedir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // may be closed already
	if d.Path() != dir {
		t.Errorf("the path is %s, want %s", d.Path(), dir)
	}
	return d
}

func instanceID(t *testing.T, d *statedir.Dir) string {
	t.Helper()
	id, err := d.InstanceID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}
