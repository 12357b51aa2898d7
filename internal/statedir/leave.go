package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"kafkagrpc/internal/tablestore"
)

// leaves is the name of the file that is there when the instance does not come back from its next stop. An instance cannot tell from
// the signal: that of a restart is the same.
const leaves = "leaves"

// Leave says to the instance that owns the folder that it does not come back when it is stopped next. It is an error where no
// instance runs.
func Leave(path string) error {
	lock, err := os.Open(filepath.Join(path, "lock"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is no state directory of an instance: %w", path, err)
	case err != nil:
		return fmt.Errorf("state directory: %w", err)
	}
	owned := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err := lock.Close(); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if owned == nil {
		return fmt.Errorf("no instance runs with the state directory %s: its groups give it up when its session times out", path)
	}
	if err := os.WriteFile(filepath.Join(path, leaves), nil, 0o644); err != nil {
		return fmt.Errorf("state directory: %w", tablestore.OnDisk(path, err))
	}
	return nil
}

// Leaves reports whether Leave was called since the folder was opened.
func (d *Dir) Leaves() bool {
	_, err := os.Stat(filepath.Join(d.path, leaves))
	return err == nil
}

// stay forgets what was said of an earlier stop.
func (d *Dir) stay() error {
	err := os.Remove(filepath.Join(d.path, leaves))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
