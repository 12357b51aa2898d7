package tablestore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// freshFile in the folder of a store says when the store was last known to be up to date.
const freshFile = "up-to-date"

// freshnessInterval is how often a store in use says so, which is what a crash makes it look older than it is.
const freshnessInterval = time.Minute

func readFreshness(store string) (time.Time, error) {
	text, err := os.ReadFile(filepath.Join(store, freshFile))
	if err != nil {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", freshFile, err)
	}
	return at, nil
}

// writeFreshness says that the store is up to date now. The file is never there in part.
func writeFreshness(store string) error {
	path := filepath.Join(store, freshFile)
	fresh := path + ".new"
	err := os.WriteFile(fresh, []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0o644)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return fmt.Errorf("noting that the local store is up to date: %w", err)
	}
	return nil
}
