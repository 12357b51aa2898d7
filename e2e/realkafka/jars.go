package realkafka

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed pom.xml
var pom []byte

// jarsTimeout is for the first download; it takes some ten seconds on a good line.
const jarsTimeout = 5 * time.Minute

// Jars is a directory with the broker's jars, which it fills at the first use. Another pom makes another directory.
// Several processes may do so at once: each has its own copy until one is put in place.
func Jars(ctx context.Context) (string, error) {
	cache := os.Getenv("KAFKA_GRPC_E2E_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding a place for Kafka's jars (or set KAFKA_GRPC_E2E_CACHE): %w", err)
		}
		cache = filepath.Join(user, "kafka-grpc-e2e")
	}
	lib := filepath.Join(cache, fmt.Sprintf("kafka-%x", sha256.Sum256(pom))[:18])
	if _, err := os.Stat(lib); err == nil {
		return lib, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("making a place for Kafka's jars: %w", err)
	}
	work, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return "", fmt.Errorf("making a place for Kafka's jars: %w", err)
	}
	defer os.RemoveAll(work)
	project := filepath.Join(work, "pom.xml")
	if err := os.WriteFile(project, pom, 0o644); err != nil {
		return "", fmt.Errorf("writing Kafka's pom: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, jarsTimeout)
	defer cancel()
	copied := filepath.Join(work, "lib")
	out, err := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", project, "dependency:copy-dependencies", "-DoutputDirectory="+copied).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("fetching Kafka's jars with mvn: %w\n%s", err, out)
	}
	if err := os.Rename(copied, lib); err != nil {
		if _, there := os.Stat(lib); there != nil {
			return "", fmt.Errorf("keeping Kafka's jars: %w", errors.Join(err, there))
		}
	}
	return lib, nil
}
