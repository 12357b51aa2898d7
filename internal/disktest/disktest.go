// Package disktest makes small file systems for tests, which fill up and have space again.
package disktest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a file system in memory, mounted at Dir.
type Disk struct {
	Dir string
	t   testing.TB
}

// New mounts a disk of so many MiB until the test ends. That needs root: without, the test is skipped, but for CI, which has it.
func New(t testing.TB, mebibytes string) *Disk {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+mebibytes+"m")
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") == "" {
		t.Skip("mounting a file system needs root")
	}
	if err != nil {
		t.Fatal("mounting a file system:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error("unmounting a file system:", errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH)))
		}
	})
	return &Disk{dir, t}
}

func (d *Disk) filler() string { return filepath.Join(d.Dir, "filler") }

// Fill takes all space that is left.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.filler(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Error(err)
	}
	if err := f.Close(); err != nil {
		d.t.Error(err)
	}
}

// Free gives back what Fill took.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

// Grow makes the disk one of so many MiB.
func (d *Disk) Grow(mebibytes string) { d.remount(0, "size="+mebibytes+"m") }

// ReadOnly makes the disk refuse to be written. No file may be open for that.
func (d *Disk) ReadOnly() { d.remount(syscall.MS_RDONLY, "") }

func (d *Disk) remount(flags uintptr, options string) {
	d.t.Helper()
	if err := syscall.Mount("tmpfs", d.Dir, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
		d.t.Fatal("mounting a file system again:", err)
	}
}
