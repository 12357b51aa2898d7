// Package statedir is the folder of one instance on its disk: who owns it, the id of the instance, and whether it comes back. It knows nothing of what others keep in it.
package statedir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"kafkagrpc/internal/tablestore"
)

// Dir is the folder of one instance: the local stores of its tables, and its id. One process owns it.
type Dir struct {
	path string
	lock *os.File
}

// Open creates the folder if need be, for its owner alone, since the results of calls are in it, and locks it. A folder in use is refused with its owner's pid.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", tablestore.OnDisk(path, err))
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", tablestore.OnDisk(path, err))
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, readErr := os.ReadFile(lock.Name())
		if closeErr := errors.Join(readErr, lock.Close()); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
		return nil, fmt.Errorf("state directory %s is in use by process %s: stop it, or give this instance its own --state-dir: %w",
			path, strings.TrimSpace(string(owner)), err)
	}
	d := &Dir{path, lock}
	// In this order it takes no more space than the last owner's, which a full disk may not have.
	pid := fmt.Sprintln(os.Getpid())
	if err := errors.Join(writeAt(lock, pid), lock.Truncate(int64(len(pid))), d.stay()); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory: %w", tablestore.OnDisk(path, err)), d.Close())
	}
	return d, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// Path is the folder.
func (d *Dir) Path() string { return d.path }

// InstanceID is the id of the instance whose state this is, made at the first use: it is the static member id at the
// consumer group, with which a restarted instance gets its partitions back at once.
func (d *Dir) InstanceID() (string, error) {
	path := filepath.Join(d.path, "instance-id")
	id, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(id))) > 0 {
		return strings.TrimSpace(string(id)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("state directory: %w", tablestore.OnDisk(d.path, err))
	}
	host, err := os.Hostname()
	if err != nil {
		host = "kafka-grpc"
	}
	fresh := host + "-" + strings.ToLower(rand.Text()[:8])
	if err := os.WriteFile(path, []byte(fresh+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("state directory: %w", tablestore.OnDisk(d.path, err))
	}
	return fresh, nil
}

// Close gives the folder up.
func (d *Dir) Close() error {
	// Explicitly: between fork and exec, a child of this process has the file open, too, and would keep the lock.
	return errors.Join(syscall.Flock(int(d.lock.Fd()), syscall.LOCK_UN), d.lock.Close())
}
