// Package logtest keeps what is logged, for tests to look at.
//
// It knows nothing of who logs, or of what.
package logtest

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
)

// Lines are what a handler of slog has written so far. The zero value is ready. Safe for concurrent use.
type Lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is all that was written.
func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Count is how often a text was written.
func (l *Lines) Count(text string) int { return strings.Count(l.String(), text) }

// About are the lines of JSON that have a message, by the names of their attributes.
func (l *Lines) About(t testing.TB, message string) (all []map[string]any) {
	t.Helper()
	for text := range strings.Lines(l.String()) {
		var found map[string]any
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if found["msg"] == message {
			all = append(all, found)
		}
	}
	return all
}
