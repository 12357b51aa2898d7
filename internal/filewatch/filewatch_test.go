package filewatch_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kafkagrpc/internal/filewatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// watched tells what a watch has told.
type watched struct {
	t     *testing.T
	paths []string
	told  chan string // what is in the files, at each change
	now   chan struct{}
}

// contents are those of now, with the text of the files one after the other.
func (w *watched) contents() (filewatch.Contents, string) {
	c := filewatch.Contents{}
	var text strings.Builder
	for _, path := range w.paths {
		data, err := os.ReadFile(path)
		c.Note(path, data, err)
		fmt.Fprintf(&text, "%s;", data)
	}
	return c, text.String()
}

func watch(t *testing.T, poll time.Duration, paths ...string) *watched {
	t.Helper()
	w := newWatched(t, paths)
	contents, _ := w.contents()
	w.run(contents, poll)
	return w
}

func newWatched(t *testing.T, paths []string) *watched {
	return &watched{t: t, paths: paths, told: make(chan string, 1000), now: make(chan struct{})}
}

// run watches until the test ends.
func (w *watched) run(contents filewatch.Contents, poll time.Duration) {
	t := w.t
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	watch := filewatch.Watch{Read: os.ReadFile, Quiet: 20 * time.Millisecond, Most: 200 * time.Millisecond, Poll: poll, Log: slog.New(slog.DiscardHandler)}
	go func() {
		defer close(done)
		watch.Run(ctx, contents, w.now, func() filewatch.Contents {
			contents, text := w.contents()
			w.told <- text
			return contents
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// await waits until the files are told to hold something.
func (w *watched) await(want string) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-w.told:
			if got == want {
				return
			}
		case <-deadline:
			w.t.Fatalf("%q was not told", want)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	for name, poll := range map[string]time.Duration{"by the system": time.Hour, "by looking": 10 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			put(t, a, "1")
			w := watch(t, poll, a, b) // b is not there yet
			put(t, a, "2")
			w.await("2;;")
			put(t, b, "x")
			w.await("2;x;")
			put(t, filepath.Join(dir, "new"), "3") // as editors do it
			must(t, os.Rename(filepath.Join(dir, "new"), a))
			w.await("3;x;")
			must(t, os.Remove(a))
			w.await(";x;")
			put(t, a, "4")
			w.await("4;x;")
		})
	}
}

// What changed before anybody watched is told.
func TestChangeBeforeTheWatch(t *testing.T) {
	t.Parallel()
	f := filepath.Join(t.TempDir(), "f")
	put(t, f, "1")
	w := newWatched(t, []string{f})
	contents, _ := w.contents()
	put(t, f, "2")
	w.run(contents, time.Hour)
	w.await("2;")
}

// A mounted ConfigMap is a folder of links to ..data, which is a link that is replaced.
func TestLinksAreSwapped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version := func(n string) {
		folder := filepath.Join(dir, "..v"+n)
		must(t, os.Mkdir(folder, 0o700))
		put(t, filepath.Join(folder, "zilla.yaml"), n)
		must(t, os.Symlink("..v"+n, filepath.Join(dir, "..next")), os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")))
	}
	version("1")
	file := filepath.Join(dir, "zilla.yaml")
	must(t, os.Symlink(filepath.Join("..data", "zilla.yaml"), file))
	w := watch(t, time.Hour, file)
	for _, n := range []string{"2", "3"} {
		version(n)
		w.await(n + ";")
	}
	// The folder behind the link is followed, too.
	put(t, filepath.Join(dir, "..v3", "zilla.yaml"), "4")
	w.await("4;")
}

// A folder that is replaced, with the file in it, is found by looking.
func TestFolderIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "conf")
	must(t, os.Mkdir(folder, 0o700))
	put(t, filepath.Join(folder, "f"), "1")
	w := watch(t, 10*time.Millisecond, filepath.Join(folder, "f"))
	must(t, os.RemoveAll(folder))
	w.await(";")
	must(t, os.Mkdir(folder, 0o700))
	put(t, filepath.Join(folder, "f"), "2")
	w.await("2;")
}

// What is touched, or written once more, is the same as before; it is told where somebody asks.
func TestSameContentsAreNotTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := filepath.Join(dir, "f")
	put(t, f, "1")
	w := watch(t, time.Hour, f)
	put(t, f, "1")
	must(t, os.Chtimes(f, time.Now(), time.Now()))
	put(t, filepath.Join(dir, "other"), "1")
	w.now <- struct{}{}
	if got := <-w.told; got != "1;" {
		t.Errorf("%q was told", got)
	}
	put(t, f, "2")
	w.await("2;")
	select {
	case got := <-w.told:
		t.Errorf("%q was told in addition", got)
	default:
	}
}

// A file that never rests is told all the same.
func TestFileThatGoesOnChanging(t *testing.T) {
	t.Parallel()
	f := filepath.Join(t.TempDir(), "f")
	put(t, f, "0")
	w := watch(t, time.Hour, f)
	told := time.After(patience)
	for n, changes := 1, 0; changes < 3; n++ {
		put(t, f, fmt.Sprint(n))
		select {
		case <-w.told:
			changes++
		case <-told:
			t.Fatalf("%d changes were told of %d", changes, n)
		default:
		}
	}
}
