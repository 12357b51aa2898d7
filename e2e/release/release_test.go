package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const releaseVersion = "v0.0.0-test"

// A release has an archive and an SBOM for each platform, and true checksums of all. The binaries are of their platform,
// static, and built again from a copy of the sources elsewhere, with nothing cached, they are the same bytes.
func TestRelease(t *testing.T) {
	if os.Getenv("KAFKA_GRPC_E2E") != "1" {
		t.Skip("builds the program for four platforms: run it with KAFKA_GRPC_E2E=1")
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	release(t, root, out)

	var want []string
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"} {
		system, processor, _ := strings.Cut(platform, "/")
		name := "kafka-grpc_" + strings.TrimPrefix(releaseVersion, "v") + "_" + system + "_" + processor
		want = append(want, name+".cdx.json", name+".tar.gz")
		files := unpack(t, filepath.Join(out, name+".tar.gz"))
		if diff := cmp.Diff([]string{name + "/CHANGELOG.md", name + "/LICENSE", name + "/README.md", name + "/kafka-grpc"}, names(files)); diff != "" {
			t.Errorf("%s.tar.gz: %s", name, diff)
			continue
		}
		program := files[name+"/kafka-grpc"]
		native(t, name, program, system, processor)
		parts(t, filepath.Join(out, name+".cdx.json"), program)
		if platform == runtime.GOOS+"/"+runtime.GOARCH {
			path := filepath.Join(t.TempDir(), "kafka-grpc")
			if err := os.WriteFile(path, program, 0o755); err != nil {
				t.Fatal(err)
			}
			if printed, err := exec.Command(path, "version").Output(); err != nil || !strings.HasPrefix(string(printed), "kafka-grpc "+releaseVersion+" ") {
				t.Errorf("version prints %q, %v", printed, err)
			}
		}
	}
	checksums(t, out, want)

	// Elsewhere, without version control, and compiled anew.
	elsewhere, again := filepath.Join(t.TempDir(), "copy"), t.TempDir()
	copySources(t, root, elsewhere)
	release(t, elsewhere, again, "PLATFORMS=linux/amd64", "GOCACHE="+t.TempDir())
	for _, name := range want[:2] {
		first, second := read(t, filepath.Join(out, name)), read(t, filepath.Join(again, name))
		if !bytes.Equal(first, second) {
			t.Errorf("%s: two builds of the same sources differ", name)
		}
	}
}

func release(t *testing.T, root, out string, env ...string) {
	t.Helper()
	// The other tests of e2e wait much meanwhile, and measure little: they go first.
	c := exec.Command("nice", "-n", "19", filepath.Join(root, "deploy", "release"), releaseVersion, out)
	c.Env = append(os.Environ(), env...)
	if printed, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, printed)
	}
}

// copySources copies what git would commit, changed or not.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = from
	files, err := list.Output()
	if err != nil {
		t.Fatalf("%v: %v", list, err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(files), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), read(t, filepath.Join(from, name)), info.Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unpack answers the files of an archive.
func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	compressed, err := gzip.NewReader(bytes.NewReader(read(t, path)))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if executable := header.Mode&0o111 != 0; executable != (filepath.Base(header.Name) == "kafka-grpc") {
			t.Errorf("%s: %s has the mode %o", path, header.Name, header.Mode)
		}
	}
}

func names(files map[string][]byte) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// native checks that a binary is of its platform, and that it needs no library that a system may not have.
func native(t *testing.T, name string, program []byte, system, processor string) {
	t.Helper()
	if system == "darwin" {
		f, err := macho.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[processor]; f.Cpu != want {
			t.Errorf("%s is for %v, not %v", name, f.Cpu, want)
		}
		return // every program needs the system's own library there
	}
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[processor]; f.Machine != want {
		t.Errorf("%s is for %v, not %v", name, f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static: it has a segment %v", name, p.Type)
		}
	}
}

// parts checks that the SBOM names each module that is in the binary, with its version, and no other.
func parts(t *testing.T, path string, program []byte) {
	t.Helper()
	var bom struct {
		Format   string `json:"bomFormat"`
		Metadata struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(read(t, path), &bom); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if main := bom.Metadata.Component; bom.Format != "CycloneDX" || main.Name != "kafkagrpc" || main.Version != releaseVersion {
		t.Errorf("%s is a %q of %+v", path, bom.Format, main)
	}
	var got []string
	for _, c := range bom.Components {
		got = append(got, c.Name+" "+c.Version)
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std " + info.GoVersion}
	for _, m := range info.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

// checksums checks that SHA256SUMS has a true line for each file, and for no other.
func checksums(t *testing.T, dir string, want []string) {
	t.Helper()
	var lines strings.Builder
	for _, name := range slices.Sorted(slices.Values(want)) {
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(read(t, filepath.Join(dir, name))), name)
	}
	if diff := cmp.Diff(lines.String(), string(read(t, filepath.Join(dir, "SHA256SUMS")))); diff != "" {
		t.Errorf("SHA256SUMS: %s", diff)
	}
}
