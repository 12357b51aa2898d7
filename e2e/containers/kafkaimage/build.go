// Package kafkaimage builds an image with a real Apache Kafka from what this machine has: a Java runtime of the modules
// that Kafka needs, the C libraries that it needs, and Kafka's jars. For machines that cannot pull the image of the Apache
// project, whose environment variables it takes. It knows nothing of the program under test.
package kafkaimage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"kafkagrpc/e2e/realkafka"
)

// modules are what the broker uses of Java; its logging needs java.desktop for the beans in it.
const modules = "java.base,java.desktop,java.logging,java.management,java.naming,java.security.sasl,java.security.jgss,java.sql,java.xml,java.rmi," +
	"jdk.unsupported,jdk.management"

const dockerfile = `FROM scratch
COPY root /
ENTRYPOINT ["/entry"]
`

// Build makes the image, with a label name=value. It needs java, jlink and ldd of a JDK 17 or newer, mvn, and a Docker engine.
func Build(ctx context.Context, tag, label string) error {
	dir, err := os.MkdirTemp("", "kafka-image-")
	if err != nil {
		return fmt.Errorf("kafka image: %w", err)
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root")
	for _, step := range []func() error{
		func() error { return os.MkdirAll(filepath.Join(root, "tmp"), 0o777) },
		func() error { return runtime(ctx, filepath.Join(root, "opt", "java")) },
		func() error { return libraries(ctx, root) },
		func() error { return jars(ctx, filepath.Join(root, "opt", "kafka", "libs")) },
		func() error { return entry(ctx, filepath.Join(root, "entry")) },
		func() error { return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600) },
		func() error { return run(ctx, "docker", "build", "--quiet", "--label", label, "--tag", tag, dir) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("kafka image %s: %w", tag, err)
		}
	}
	return nil
}

func run(ctx context.Context, program string, args ...string) error {
	c := exec.CommandContext(ctx, program, args...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", c, err, out)
	}
	return nil
}

func runtime(ctx context.Context, to string) error {
	return run(ctx, "jlink", "--add-modules", modules, "--output", to, "--no-header-files", "--no-man-pages", "--strip-java-debug-attributes")
}

// libraries copies the C libraries that the runtime names, to the places where they are looked for.
func libraries(ctx context.Context, root string) error {
	var needing []string
	err := filepath.WalkDir(filepath.Join(root, "opt", "java"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && (filepath.Ext(path) == ".so" || d.Name() == "java" && !d.IsDir()) {
			needing = append(needing, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "ldd", needing...).Output()
	if err != nil {
		return fmt.Errorf("ldd: %w", err)
	}
	var found []string
	for _, line := range strings.Split(string(out), "\n") {
		for _, word := range strings.Fields(line) {
			// "libc.so.6 => /lib/... (0x...)", or the loader alone, or "path:" of what is asked about.
			if strings.HasPrefix(word, "/") && !strings.HasPrefix(word, root) && !slices.Contains(found, word) {
				found = append(found, word)
			}
		}
	}
	if len(found) == 0 {
		return errors.New("ldd names no library")
	}
	for _, path := range found {
		if err := copyFile(path, filepath.Join(root, path)); err != nil {
			return err
		}
	}
	return nil
}

func jars(ctx context.Context, to string) error {
	from, err := realkafka.Jars(ctx)
	if err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// entry builds the command that the container starts.
func entry(ctx context.Context, to string) error {
	c := exec.CommandContext(ctx, "go", "build", "-o", to, "kafkagrpc/e2e/containers/kafkaimage/entry")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", c, err, out)
	}
	return nil
}

// copyFile copies what a path leads to, over symbolic links.
func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode())
}
