// Package filewatch tells when files hold something else than before, whatever they are.
//
// It compares what is in them: a mounted ConfigMap is swapped by links, editors put another file in place of one, and a touched file is no
// other one. It is told of changes by the system, and looks by itself beside that, as not every file system tells.
package filewatch

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Contents are what files hold, by their paths.
type Contents map[string]sum

// sum tells contents apart.
type sum [sha256.Size]byte

var missing, unreadable = sum{1}, sum{2}

// Note takes in what a file holds, or why it cannot be read. Of a file that is noted twice the first time counts: what has changed meanwhile is
// found as a change.
func (c Contents) Note(path string, data []byte, err error) {
	if _, noted := c[path]; noted {
		return
	}
	switch {
	case err == nil:
		c[path] = sha256.Sum256(data)
	case errors.Is(err, fs.ErrNotExist):
		c[path] = missing
	default:
		c[path] = unreadable
	}
}

// Watch is what to watch. All of it is set.
type Watch struct {
	Read  func(path string) ([]byte, error) // a file
	Quiet time.Duration                     // without another change, before one is told: whoever writes a file may not be done
	Most  time.Duration                     // that a change is kept back where they go on
	Poll  time.Duration                     // between looks at files of which nothing was heard
	Log   *slog.Logger
}

// Run calls changed after each change of contents, until ctx ends, and goes on with the contents that it answers, which it has noted before it
// did anything with them. It calls it also for each thing that comes from now, whether there is a change or not.
func (w Watch) Run(ctx context.Context, contents Contents, now <-chan struct{}, changed func() Contents) {
	f := follow(w.Log)
	defer f.close()
	f.folders(contents)
	poll := time.NewTicker(w.Poll)
	defer poll.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	var latest time.Time // when the change that is kept back is told; zero: there is none
	stirred := func() {
		if latest.IsZero() {
			latest = time.Now().Add(w.Most)
		}
		quiet.Reset(max(0, min(w.Quiet, time.Until(latest))))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-now:
			latest = time.Time{}
			contents = changed()
			f.folders(contents)
		case <-f.events():
			stirred()
		case <-f.errors(): // such as too many events to tell of each
			stirred()
		case <-poll.C:
			f.folders(contents)
			if latest.IsZero() && w.differ(contents) {
				stirred()
			}
		case <-quiet.C:
			latest = time.Time{}
			if w.differ(contents) {
				contents = changed()
				f.folders(contents)
			}
		}
	}
}

// differ reports whether files hold something else.
func (w Watch) differ(contents Contents) bool {
	for path, was := range contents {
		now := Contents{}
		data, err := w.Read(path)
		now.Note(path, data, err)
		if now[path] != was {
			return true
		}
	}
	return false
}

// follower is told by the system when something changes in folders: the files themselves may be replaced.
type follower struct {
	watcher *fsnotify.Watcher // nil: the system tells nothing
	log     *slog.Logger
	failed  map[string]bool // folders of which the log has told
}

func follow(log *slog.Logger) *follower {
	f := &follower{log: log, failed: map[string]bool{}}
	var err error
	if f.watcher, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("the system tells nothing of changed files: they are looked at now and then", "error", err)
	}
	return f
}

func (f *follower) close() {
	if f.watcher != nil {
		_ = f.watcher.Close() // it ends with the process at the latest
	}
}

func (f *follower) errors() <-chan error {
	if f.watcher == nil {
		return nil
	}
	return f.watcher.Errors
}

func (f *follower) events() <-chan fsnotify.Event {
	if f.watcher == nil {
		return nil
	}
	return f.watcher.Events
}

// folders follows those that the files are in, and those that they are links to.
func (f *follower) folders(contents Contents) {
	if f.watcher == nil {
		return
	}
	wanted := map[string]bool{}
	for path := range contents {
		wanted[filepath.Dir(path)] = true
		if real, err := filepath.EvalSymlinks(path); err == nil {
			wanted[filepath.Dir(real)] = true
		}
	}
	followed := f.watcher.WatchList()
	for _, folder := range slices.Sorted(maps.Keys(wanted)) {
		if slices.Contains(followed, folder) {
			continue
		}
		switch err := f.watcher.Add(folder); {
		case err == nil:
			delete(f.failed, folder)
		case !f.failed[folder] && !errors.Is(err, fs.ErrNotExist): // which may come
			f.failed[folder] = true
			f.log.Warn("the system tells nothing of changed files in a folder: they are looked at now and then", "folder", folder, "error", err)
		}
	}
	for _, folder := range followed {
		if !wanted[folder] {
			_ = f.watcher.Remove(folder) // nothing is lost if it stays
		}
	}
}
