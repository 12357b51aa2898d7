package containers_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The image has the program, a folder of its own for the state, and nothing else; it runs without rights, asks itself for
// its health, and has the same bytes each time it is built.
func TestImage(t *testing.T) {
	docker := need(t)
	const version = "v1.0.0"
	tag := programImage(t, version)
	found, err := docker.ImageInspect(t.Context(), tag)
	must(t, err)
	config := found.Config
	if config.User != "65532:65532" {
		t.Errorf("it runs as %q", config.User)
	}
	if config.Healthcheck == nil || !slices.Equal(config.Healthcheck.Test, []string{"CMD", "/kafka-grpc", "health"}) {
		t.Errorf("health check %+v", config.Healthcheck)
	}
	if label := config.Labels["org.opencontainers.image.version"]; label != version {
		t.Errorf("it is labeled as version %q", label)
	}
	out, err := exec.CommandContext(t.Context(), "docker", "run", "--rm", "--network=none", "--label", label+"="+session, tag, "version").Output()
	if must(t, err); !strings.HasPrefix(string(out), "kafka-grpc "+version+" ") {
		t.Errorf("version prints %q", out)
	}

	first := files(t, tag)
	want := []string{"/kafka-grpc 0:0 -rwxr-xr-x", "/var 0:0 drwxr-xr-x", "/var/lib 0:0 drwxr-xr-x", "/var/lib/kafka-grpc 65532:65532 drwxr-xr-x"}
	if diff := cmp.Diff(want, first.names); diff != "" {
		t.Errorf("files: %s", diff)
	}
	second := "kafka-grpc-e2e:" + session + "-again"
	out, err = exec.CommandContext(t.Context(), "../../deploy/image", second, version, "--label", label+"="+session, "--no-cache").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if again := files(t, second); again.program != first.program {
		t.Errorf("two builds of the same sources differ: %s, %s", first.program, again.program)
	}
}

type content struct {
	names   []string // path, owner and mode
	program string   // SHA-256
}

// files are those of an image, without what the engine puts into each container.
func files(t *testing.T, tag string) (c content) {
	t.Helper()
	docker := func(args ...string) []byte {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "docker", args...).Output()
		if err != nil {
			t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	id := strings.TrimSpace(string(docker("create", "--label", label+"="+session, tag)))
	archive := tar.NewReader(bytes.NewReader(docker("export", id)))
	docker("rm", "--volumes", id)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(c.names)
			return c
		}
		must(t, err)
		name := path.Clean("/" + header.Name)
		if top, _, _ := strings.Cut(name[1:], "/"); slices.Contains([]string{"", ".dockerenv", "dev", "etc", "proc", "sys"}, top) {
			continue
		}
		c.names = append(c.names, fmt.Sprintf("%s %d:%d %v", name, header.Uid, header.Gid, header.FileInfo().Mode()))
		if name == "/kafka-grpc" {
			hash := sha256.New()
			_, err := io.Copy(hash, archive)
			must(t, err)
			c.program = fmt.Sprintf("%x", hash.Sum(nil))
		}
	}
}
