package realkafka

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// mavenTimeout is for the first download; it takes some ten seconds on a good line.
const mavenTimeout = 5 * time.Minute

// Maven is a directory that goals of Maven have filled: they get it as the property outputDirectory. project has the files to run them on by
// their names, pom.xml among them. It is kept in the cache directory, under name and what the files contain: other files make another
// directory. Several processes may do so at once: each has its own copy until one is put in place.
func Maven(ctx context.Context, name string, project map[string][]byte, goals ...string) (string, error) {
	cache := os.Getenv("KAFKA_GRPC_E2E_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding a place for jars (or set KAFKA_GRPC_E2E_CACHE): %w", err)
		}
		cache = filepath.Join(user, "kafka-grpc-e2e")
	}
	hash := sha256.New()
	for _, file := range slices.Sorted(maps.Keys(project)) {
		hash.Write(project[file])
	}
	kept := filepath.Join(cache, fmt.Sprintf("%s-%x", name, hash.Sum(nil)[:6]))
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("making a place for jars: %w", err)
	}
	work, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return "", fmt.Errorf("making a place for jars: %w", err)
	}
	defer os.RemoveAll(work)
	for file, content := range project {
		if err := os.WriteFile(filepath.Join(work, file), content, 0o644); err != nil {
			return "", fmt.Errorf("writing what Maven is run on: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, mavenTimeout)
	defer cancel()
	made := filepath.Join(work, "made")
	args := append([]string{"-q", "-B", "-f", filepath.Join(work, "pom.xml"), "-DoutputDirectory=" + made}, goals...)
	if out, err := exec.CommandContext(ctx, "mvn", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("making %s with mvn: %w\n%s", name, err, out)
	}
	if err := os.Rename(made, kept); err != nil {
		if _, there := os.Stat(kept); there != nil {
			return "", fmt.Errorf("keeping %s: %w", name, errors.Join(err, there))
		}
	}
	return kept, nil
}
