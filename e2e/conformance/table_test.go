package conformance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func scenarios() []scenario {
	return slices.Concat(kafkaGRPC(), grpcKafka(), grpcLevel(), ours())
}

const (
	table = "../../docs/conformance.md"
	begin = "<!-- scenarios: written by go test ./e2e/conformance -run TestTable -update -->\n"
	end   = "<!-- end of scenarios -->\n"
)

// The table in docs/conformance.md has a row for each scenario, in the order in which they run, and each has its golden file.
func TestTable(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "| %d scenarios | | what is seen |\n|---|---|---|\n", len(scenarios()))
	var files []string
	for _, s := range scenarios() {
		files = append(files, goldenFile(s.slug()))
		fmt.Fprintf(&b, "| %s | [%s](../e2e/conformance/%s) | %s |\n", s.group, s.name, filepath.ToSlash(goldenFile(s.slug())), s.shows)
	}
	content, err := os.ReadFile(table)
	must(t, err)
	before, rest, ok := strings.Cut(string(content), begin)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no lines %q and %q", table, begin, end)
	}
	if *update {
		must(t, os.WriteFile(table, []byte(before+begin+b.String()+end+after), 0o644))
	} else if diff := cmp.Diff(b.String(), got); diff != "" {
		t.Errorf("%s differs from the scenarios; task golden repairs it (-want +got):\n%s", table, diff)
	}
	there, err := filepath.Glob(goldenFile("*"))
	must(t, err)
	slices.Sort(files)
	if diff := cmp.Diff(files, there); diff != "" && !*update {
		t.Errorf("the golden files are not those of the scenarios (-scenarios +files):\n%s", diff)
	}
}
