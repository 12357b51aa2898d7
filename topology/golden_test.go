package topology_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/topology"
)

// variables reads the `# env: NAME=VALUE` comments at the head of a file: its only environment.
func variables(t *testing.T, path string) func(string) (string, bool) {
	t.Helper()
	vars := map[string]string{}
	for _, line := range head(t, path, "# env: ") {
		name, value, _ := strings.Cut(line, "=")
		vars[name] = value
	}
	return lookup(vars)
}

func lookup(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := vars[name]
		return value, ok
	}
}

// head are the comments with a prefix that a file begins with, without it.
func head(t *testing.T, path, prefix string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var found []string
	for s := bufio.NewScanner(f); s.Scan() && strings.HasPrefix(s.Text(), "# "); {
		if line, ok := strings.CutPrefix(s.Text(), prefix); ok {
			found = append(found, line)
		}
	}
	return found
}

func walk(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	return files
}

// TestBad holds each testdata/*.bad.yaml against the problems that its leading `# want: ` comments list: all of
// them, in order, with their positions.
func TestBad(t *testing.T) {
	for _, path := range walk(t, "testdata/*.bad.yaml") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".bad.yaml"), func(t *testing.T) {
			t.Parallel()
			_, err := topology.Load(path, topology.Options{LookupEnv: variables(t, path)})
			if err == nil {
				t.Fatal("loaded without a problem")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in the message: %v", err)
			}
			var got []string
			for _, line := range strings.Split(err.Error(), "\n") {
				got = append(got, strings.TrimPrefix(line, path+":"))
			}
			if *topology.Update {
				rewrite(t, path, len(got), func() []string {
					_, err := topology.Load(path, topology.Options{LookupEnv: variables(t, path)})
					return strings.Split(strings.ReplaceAll(err.Error(), path+":", ""), "\n")
				})
				return
			}
			if diff := cmp.Diff(head(t, path, "# want: "), got); diff != "" {
				t.Errorf("problems differ (-want +got):\n%s", diff)
			}
		})
	}
}

// rewrite puts n expectations at the head of a file, then asks for them, since they move the lines of the file.
func rewrite(t *testing.T, path string, n int, wants func() []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rest []string
	for _, line := range strings.SplitAfter(string(data), "\n") {
		if !strings.HasPrefix(line, "# want: ") {
			rest = append(rest, line)
		}
	}
	write := func(lines []string) {
		var b strings.Builder
		for _, l := range lines {
			b.WriteString("# want: " + l + "\n")
		}
		if err := os.WriteFile(path, []byte(b.String()+strings.Join(rest, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(make([]string, n))
	write(wants())
}

// TestGood holds each testdata/*.good.yaml, and the seed, against its golden files.
func TestGood(t *testing.T) {
	for _, path := range append(walk(t, "testdata/*.good.yaml"), seed) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			env := variables(t, path)
			if path == seed {
				env = lookup(seedEnv)
			}
			got, err := topology.Load(path, topology.Options{LookupEnv: env})
			if err != nil {
				t.Fatal(err)
			}
			json, err := got.JSON()
			if err != nil {
				t.Fatal(err)
			}
			base := strings.TrimSuffix(path, filepath.Ext(path))
			golden(t, base+".txt", got.Text())
			golden(t, base+".mmd", got.Mermaid())
			golden(t, base+".json", string(json)+"\n")
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *topology.Update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); task golden rewrites it:\n%s", path, diff)
	}
}
