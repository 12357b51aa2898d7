package tablestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// DiskError is what a file system refuses for a reason that passes, or that somebody must remove: a full disk, for one.
type DiskError struct {
	Dir string // the state folder
	Err error
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("the folder %s cannot be used: %v: %s", e.Dir, e.Err, remedies[errnoOf(e.Err)])
}

func (e *DiskError) Unwrap() error { return e.Err }

var remedies = map[syscall.Errno]string{
	syscall.ENOSPC: "its file system is full: make space there",
	syscall.EDQUOT: "the quota is used up: make space there, or raise it",
	syscall.EROFS:  "its file system is read-only: mount it to be written; the kernel makes one read-only whose disk fails",
	syscall.EIO:    "its disk fails",
	syscall.EMFILE: "this process has too many files open: raise its limit (ulimit -n, LimitNOFILE)",
	syscall.ENFILE: "this machine has too many files open: raise its limit (fs.file-max)",
	syscall.EACCES: "the user of this process may not write there: give the folder to it",
	syscall.EPERM:  "the user of this process may not write there: give the folder to it",
}

// errnoOf is the error number that makes err a DiskError; 0 for any other error.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if errors.As(err, &errno) && remedies[errno] != "" {
		return errno
	}
	return 0
}

// OnDisk is err as a *DiskError if it is one.
func OnDisk(dir string, err error) error {
	var disk *DiskError
	if err == nil || errors.As(err, &disk) || errnoOf(err) == 0 {
		return err
	}
	return &DiskError{dir, err}
}

// probeBytes is what Check writes: more than one block of any file system, and nothing to a disk that has space.
const probeBytes = 64 << 10

// Check writes a file to a folder and removes it. The error is a *DiskError where the file system refuses that.
func Check(dir string) error {
	path := filepath.Join(dir, "probe")
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(path, make([]byte, probeBytes), 0o600)
		if removed := os.Remove(path); err == nil {
			err = removed
		}
	}
	return OnDisk(dir, err)
}
