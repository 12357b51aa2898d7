package tablestore_test

import (
	"bytes"
	crypto "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"kafkagrpc/internal/tablestore"
)

// disk takes some bytes more, and then refuses them as a file system does: what does not fit is written in part.
type disk struct {
	mu    sync.Mutex
	space int
	err   syscall.Errno
}

func (d *disk) set(space int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space = space
}

// take is how many of n bytes fit.
func (d *disk) take(n int, op string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n <= d.space {
		d.space -= n
		return n, nil
	}
	fits := d.space
	d.space = 0
	return fits, &os.PathError{Op: op, Path: "somewhere", Err: d.err}
}

func (d *disk) under(s storage.Storage) storage.Storage { return diskFiles{s, d} }

type diskFiles struct {
	storage.Storage
	disk *disk
}

func (f diskFiles) Create(fd storage.FileDesc) (storage.Writer, error) {
	if _, err := f.disk.take(1, "open"); err != nil {
		return nil, err
	}
	w, err := f.Storage.Create(fd)
	return diskFile{w, f.disk}, err
}

func (f diskFiles) SetMeta(fd storage.FileDesc) error {
	if _, err := f.disk.take(20, "write"); err != nil {
		return err
	}
	return f.Storage.SetMeta(fd)
}

type diskFile struct {
	storage.Writer
	disk *disk
}

func (f diskFile) Write(p []byte) (int, error) {
	fits, full := f.disk.take(len(p), "write")
	n, err := f.Writer.Write(p[:fits])
	return n, errors.Join(err, full)
}

func (f diskFile) Truncate(size int64) error {
	return f.Writer.(interface{ Truncate(int64) error }).Truncate(size)
}

func (f diskFile) Seek(offset int64, whence int) (int64, error) {
	return f.Writer.(io.Seeker).Seek(offset, whence)
}

const plenty = 1 << 40

// onDisk are stores on a disk of their own. They have a log, and note what is told of failures.
func onDisk(t *testing.T, d *disk) (b tablestore.Stores, log *bytes.Buffer, failures chan error) {
	b = stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	log, failures = new(bytes.Buffer), make(chan error, 10)
	b.Log = slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), nil))
	b.Failed = func(err error) { failures <- err }
	tablestore.PutOn(filepath.Join(b.Dir, "table.3"), d.under)
	return b, log, failures
}

// named checks what an error of a disk says.
func named(t *testing.T, err error, dir string, errno syscall.Errno, help string) {
	t.Helper()
	var of *tablestore.DiskError
	if !errors.As(err, &of) || of.Dir != dir || !errors.Is(err, errno) {
		t.Fatalf("%v is not that of folder %s", err, dir)
	}
	for _, part := range []string{dir, errno.Error(), help} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

// Wherever in a file the space ends, what the store says that it has is there afterwards, and nothing in it is corrupt. Until
// then it has all in memory.
func TestFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		d := &disk{space: plenty, err: syscall.ENOSPC}
		b, log, failures := onDisk(t, d)
		b.Keep = true
		b.Partitions = 1000 // the least segments
		s := open(t, b)
		check(t, s.MarkRecovered())
		for n := range dice.IntN(2) * 300 { // so much that some are given up soon
			check(t, s.Set(fmt.Sprint("k", n%30), make([]byte, 7000+dice.IntN(500))))
		}
		for n := range 30 {
			check(t, s.Delete(fmt.Sprint("k", n)))
		}
		keys(t, s) // all that is on the disk now
		d.set(dice.IntN(200 << 10))
		want := map[string]string{}
		var saved int64 = -1
		write := func(offset int64) {
			key, value := fmt.Sprint("k", dice.IntN(30)), strings.Repeat("x", dice.IntN(1<<(4+dice.IntN(14))))
			if value == "" {
				check(t, s.Delete(key), s.SetOffset(offset))
				delete(want, key)
			} else {
				check(t, s.Set(key, []byte(value)), s.SetOffset(offset))
				want[key] = value
			}
		}
		holds := func(when string) {
			t.Helper()
			for n := range 30 {
				key := fmt.Sprint("k", n)
				got, err := s.Get(key)
				has, errHas := s.Has(key)
				value, there := want[key]
				if string(got) != value || has != there || errors.Join(err, errHas) != nil {
					t.Fatalf("round %d, %s: %s has %d bytes, want %d (%v, %v)", round, when, key, len(got), len(value), err, errHas)
				}
			}
		}
		offset := int64(0)
		var history []map[string]string
		for ; len(failures) == 0; offset++ {
			write(offset)
			history = append(history, maps.Clone(want))
		}
		for range 5 { // the space comes and goes
			d.set(dice.IntN(4) << 10)
			write(offset)
			history = append(history, maps.Clone(want))
			offset++
		}
		holds("while it is full")
		if len(failures) != 1 {
			t.Errorf("round %d: it was told %d times", round, len(failures))
		}
		named(t, <-failures, b.Dir, syscall.ENOSPC, "make space there")
		saved, err := s.GetOffset(-1)
		check(t, err)
		if saved >= offset-6 {
			t.Fatalf("round %d: the store says that it has offset %d, of which it lacks the row", round, saved)
		}
		check(t, s.Close())
		d.set(plenty)
		s = open(t, b)
		again, err := s.GetOffset(-1)
		check(t, err)
		if strings.Contains(log.String(), "corrupt") || again < saved {
			t.Fatalf("round %d: offset %d, want %d; %s", round, again, saved, log)
		}
		// From there on the changelog has the rest. It has more than the offset says at most.
		want = map[string]string{}
		if again >= 0 {
			want = history[again]
		}
		for n := range 30 {
			key := fmt.Sprint("k", n)
			got, err := s.Get(key)
			check(t, err)
			later := false
			for _, at := range history[max(0, again):] {
				later = later || at[key] == string(got)
			}
			if string(got) != want[key] && !later {
				t.Fatalf("round %d: %s has %d bytes, which it never had since offset %d", round, key, len(got), again)
			}
		}
		check(t, s.Close())
	}
}

// A store whose rows are not kept, or come from a recovery, refuses them from the first that is missing, also when there is space again.
func TestFailedStoreTakesNoMore(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		keep, recovered bool
	}{{"not kept", false, true}, {"recovering", true, false}, {"neither", false, false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := &disk{space: plenty, err: syscall.EDQUOT}
			b, _, failures := onDisk(t, d)
			b.Keep = test.keep
			s := open(t, b)
			check(t, s.Set("a", []byte("1")), s.SetOffset(3))
			if test.recovered {
				check(t, s.MarkRecovered())
			}
			keys(t, s) // they are on the disk now
			d.set(0)
			check(t, s.Set("b", []byte("2")), s.SetOffset(4))
			named(t, <-failures, b.Dir, syscall.EDQUOT, "raise it")
			d.set(plenty)
			if at, err := s.GetOffset(-1); at != 3 || err != nil {
				t.Errorf("offset %d, %v, want that of the disk", at, err)
			}
			if value, err := s.Get("b"); string(value) != "2" || err != nil {
				t.Errorf("the row that is not on the disk is %q, %v", value, err)
			}
			if got := keys(t, s); !slices.Equal(got, []string{"a"}) {
				t.Errorf("on the disk are %q", got)
			}
			for what, err := range map[string]error{"a row": s.Set("c", []byte("3")), "a removal": s.Delete("a"), "an offset": s.SetOffset(5)} {
				if !errors.Is(err, syscall.EDQUOT) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if value, err := s.Get("a"); string(value) != "1" || err != nil {
				t.Errorf("the row of before is %q, %v", value, err)
			}
			check(t, s.Close())
			if len(failures) != 0 {
				t.Errorf("it was told %d times more", len(failures))
			}
			s = open(t, b)
			at, err := s.GetOffset(-1)
			if check(t, err); at != 3 {
				t.Errorf("offset %d, want 3", at)
			}
			if got := keys(t, s); !slices.Equal(got, []string{"a"}) {
				t.Errorf("afterwards there are %q", got)
			}
			check(t, s.Close())
		})
	}
}

// A store that cannot be opened for a reason that passes says what that is, and is there when it has passed.
func TestStoreThatCannotBeOpenedIsNamedAndStays(t *testing.T) {
	t.Parallel()
	for errno, help := range map[syscall.Errno]string{
		syscall.ENOSPC: "make space", syscall.EDQUOT: "quota", syscall.EROFS: "read-only", syscall.EMFILE: "ulimit -n", syscall.ENFILE: "fs.file-max",
		syscall.EACCES: "give the folder", syscall.EPERM: "give the folder", syscall.EIO: "its disk fails",
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			d := &disk{space: plenty, err: errno}
			b, log, failures := onDisk(t, d)
			s := open(t, b)
			check(t, s.Set("a", []byte("1")), s.SetOffset(3), s.MarkRecovered(), s.Close())
			for space := 0; ; space += 7 {
				d.set(space)
				s, err := b.Build(topic, partition)
				if err == nil {
					check(t, s.Close())
					break
				}
				named(t, err, b.Dir, errno, help)
				select {
				case told := <-failures:
					if told.Error() != err.Error() {
						t.Errorf("told %v, want %v", told, err)
					}
				default:
					t.Error("nobody was told")
				}
			}
			d.set(plenty)
			s = open(t, b)
			if value, err := s.Get("a"); string(value) != "1" || err != nil || strings.Contains(log.String(), "corrupt") {
				t.Errorf("the row is %q, %v; %s", value, err, log)
			}
			check(t, s.Close())
		})
	}
}

// random are bytes that no compression makes fewer.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = crypto.Read(b)
	return b
}

// What a store becomes that was found corrupt while the disk was full.
func TestCorruptStoreIsMarkedOnAFullDisk(t *testing.T) {
	t.Parallel()
	d := &disk{space: plenty, err: syscall.ENOSPC}
	b, log, failures := onDisk(t, d)
	s := open(t, b)
	for n := range 100 {
		check(t, s.Set(fmt.Sprint("k", n), random(1000)))
	}
	check(t, s.SetOffset(3), s.MarkRecovered(), s.Close())
	s = open(t, b)
	check(t, s.MarkRecovered())
	tables, err := filepath.Glob(filepath.Join(b.Dir, "table.3", "rows", "*.ldb"))
	if check(t, err); len(tables) == 0 {
		t.Fatal("no segment")
	}
	for _, name := range tables {
		data, err := os.ReadFile(name)
		check(t, err)
		copy(data[12<<10:], make([]byte, 8<<10))
		check(t, os.WriteFile(name, data, 0o644))
	}
	d.set(0)
	for n := 0; len(failures) == 0 && n < 100; n++ {
		_, err = s.Get(fmt.Sprint("k", n))
	}
	if len(failures) != 1 || err == nil || (<-failures).Error() != err.Error() {
		t.Fatalf("reading it: %v, told %d times", err, len(failures))
	}
	check(t, s.Close())
	d.set(plenty)
	s = open(t, b)
	if got := keys(t, s); len(got) != 0 || !strings.Contains(log.String(), "corrupt") {
		t.Errorf("%d rows; %s", len(got), log)
	}
	check(t, s.Close())
}

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there")
	check(t, tablestore.Check(dir))
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("it left %v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	check(t, os.WriteFile(file, nil, 0o600))
	var disk *tablestore.DiskError
	if err := tablestore.Check(file); err == nil || errors.As(err, &disk) {
		t.Errorf("a file for a folder: %v", err)
	}
}
