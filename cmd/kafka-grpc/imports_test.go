package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rule is what one room may import. A room is a package with those below it that have no rule of their own.
type rule struct {
	room   string
	ours   string // rooms
	others string // libraries that define what the room must not know, and that it may use all the same
	why    string
}

// rules are all rooms of the program, floor by floor: each imports rooms that stand above it here, and of those only the named ones.
var rules = []rule{
	{"wire", "", "", "both sides of the topics meet here, and other programs' records too: it depends on nothing of ours"},
	{"wire/rawcodec", "", "grpc", "messages pass through gRPC as bytes, whatever they are"},
	{"internal/defect", "", "", "constants for the chaos suite, which the compiler removes"},
	{"internal/loglimit", "", "", "everything may log, so it depends on nothing"},
	{"internal/restart", "", "", "runs again what ends, whatever it is"},
	{"internal/jsonanswer", "", "", "how the admin address answers, whatever it is asked"},
	{"internal/payload", "", "", "values and messages; where they come from and go to is not its business"},
	{"internal/filewatch", "", "", "tells that files hold something else, whatever they are"},
	{"internal/keystore", "", "", "decodes files, whoever asks"},
	{"internal/revocation", "internal/loglimit", "", "certificates and the lists of their issuers; who connects is not its business"},
	{"internal/texttable", "", "", "lays out text, whatever it says"},
	{"internal/tablestore", "", "goka", "goka's storage; it knows no rows"},
	{"internal/statedir", "internal/tablestore", "", "a folder on a disk; it knows nothing of what others keep in it"},
	{"internal/gokalog", "internal/loglimit", "goka sarama", "what goka and sarama log, brought into ours"},
	{"internal/consumergroup", "wire internal/defect", "sarama", "holds offsets; it knows nothing of what records mean"},
	{"topology", "wire internal/keystore internal/payload internal/revocation internal/texttable", "", "what a file means, with whether its schemas are some; it opens no socket and knows no client of Kafka: that revocation lists are asked for is part of the TLS that it hands out, so that no connection can forget it"},
	{"internal/guard", "topology", "", "who calls; what a caller may do, and how calls come, is not its business"},
	{"grpcout", "wire/rawcodec", "grpc", "calls services; where a request comes from is not its business"},
	{"internal/schemaregistry", "topology internal/payload internal/restart", "franz", "schemas by their ids, with the client of registries that franz-go has; it knows nothing of Kafka, and of what is written with them"},
	{"internal/telemetry", "wire topology internal/loglimit", "grpc", "instruments, and the context in headers"},
	{"internal/kafka", "wire topology internal/defect internal/loglimit internal/restart internal/revocation", "sarama franz", "clients of Kafka; it knows no calls and no rows"},
	{"internal/deadletter", "wire topology internal/jsonanswer internal/kafka internal/payload internal/texttable", "", "dead letters as records; how they come to be is the processor's"},
	{"internal/admin", "internal/jsonanswer internal/loglimit", "", "HTTP for operators; it knows nothing of Kafka, gRPC services or rows"},
	{"processor/rowpb", "", "", "the row, which views read without the processor"},
	{"processor/outbox", "wire internal/kafka", "", "how records get to Kafka; it knows nothing of requests, calls and rows"},
	{"processor/partition", "wire topology grpcout internal/consumergroup internal/deadletter internal/defect internal/kafka internal/loglimit internal/payload internal/restart internal/telemetry processor/outbox processor/rowpb", "", "what happens to a request; the life of goka, assignments and stores are the processor's"},
	{"processor", "wire topology grpcout internal/consumergroup internal/defect internal/gokalog internal/kafka internal/restart internal/statedir internal/tablestore internal/telemetry processor/outbox processor/partition processor/rowpb", "goka sarama", "meets the server in front in the records alone, and knows no HTTP/2, TLS or YAML"},
	{"grpcin", "wire wire/rawcodec topology internal/guard internal/loglimit internal/telemetry", "grpc", "meets the processor in the records alone, and is given what sends and reads them"},
	{"views", "wire topology internal/gokalog internal/jsonanswer internal/kafka internal/restart internal/tablestore processor/rowpb", "goka sarama", "what happened to a key; how rows come to be is the processor's"},
	{"internal/embedded", "wire/rawcodec", "grpc franz", "a Kafka and a service for the demo and for tests"},
	{"internal/genproto", "", "", "generates code"},
	{"internal/genopenapi", "", "", "generates a description"},
	{"internal/disktest", "", "", "for tests"},
	{"internal/issuertest", "", "", "for tests"},
	{"internal/logtest", "", "", "for tests"},
	{"internal/pkitest", "", "", "for tests"},
	{"cmd/kafka-grpc/app", "wire topology grpcout internal/restart internal/statedir internal/tablestore internal/telemetry internal/kafka internal/deadletter internal/admin internal/guard internal/payload internal/revocation internal/schemaregistry internal/consumergroup processor processor/partition grpcin views", "", "starts and stops what a topology needs, whoever asks for it: it knows no command line, and leaves Kafka and gRPC to the rooms"},
	{"cmd/kafka-grpc/preflight", "topology grpcout internal/guard internal/kafka internal/schemaregistry processor/partition", "", "looks at what a topology needs before it is started; it starts nothing"},
	{"cmd/kafka-grpc", "wire topology grpcout internal/schemaregistry internal/statedir internal/texttable internal/kafka internal/deadletter internal/admin/access internal/embedded internal/filewatch processor processor/rowpb views cmd/kafka-grpc/app cmd/kafka-grpc/preflight", "cobra", "commands and flags; what runs for long is the app's"},
	{"e2e", "wire wire/rawcodec processor/rowpb internal/embedded", "grpc franz flag", "looks at the program from outside: of its insides only the contract, the row and the demo's services"},
}

// known are the libraries that define what a room is about.
var known = map[string]string{"goka": "github.com/lovoo/goka", "sarama": "github.com/IBM/sarama", "franz": "github.com/twmb/franz-go", "grpc": "google.golang.org/grpc", "cobra": "github.com/spf13", "flag": "flag"}

// vocabulary is what of grpc is no network: codes, statuses, metadata. Whoever passes on what a call says needs it.
var vocabulary = []string{"google.golang.org/grpc/codes", "google.golang.org/grpc/status", "google.golang.org/grpc/metadata"}

// Who imports whom is the architecture (docs/architecture.md). An import that a rule does not name needs a reason that changes the rule.
func TestImports(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for path, imports := range packages(t) {
		for _, problem := range broken(path, imports, used) {
			t.Error(problem)
		}
	}
	for _, r := range rules {
		if !used[r.room] {
			t.Errorf("the rule of %s is about nothing that there is", r.room)
		}
		for ours := range strings.FieldsSeq(r.ours) {
			if !used[r.room+" "+ours] {
				t.Errorf("%s may import %s and does not: take it out of its rule", r.room, ours)
			}
		}
	}
}

// packages are those of the program's module, with what their files import but for tests. They are read here, and not asked of the go
// command, so that a cached result knows of the files that it is about.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	const root = "../.."
	all := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, module := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && (module == nil || strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		imports := all[name] // which stays empty where nothing is imported
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, imported)
		}
		all[name] = imports
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// broken says which imports of a package its rule does not have.
func broken(path string, imports []string, used map[string]bool) (problems []string) {
	i := ruleOf(path)
	if i < 0 {
		return []string{fmt.Sprintf("%s is in no room: give it a rule", path)}
	}
	r := rules[i]
	used[r.room] = true
	for _, imported := range imports {
		ours, isOurs := strings.CutPrefix(imported, "kafkagrpc/")
		if isOurs {
			j := ruleOf(ours)
			if j == i {
				continue
			}
			name := ""
			for _, candidate := range []string{ours, rules[max(j, 0)].room} {
				if slices.Contains(strings.Fields(r.ours), candidate) {
					name = candidate
				}
			}
			switch {
			case name == "":
				problems = append(problems, fmt.Sprintf("%s imports %s, and %s must not: %s", path, imported, r.room, r.why))
			case j > i:
				problems = append(problems, fmt.Sprintf("%s imports %s, which stands below it in the rules: no arrow goes up", path, imported))
			}
			used[r.room+" "+name] = true
			continue
		}
		for name, library := range known {
			if strings.HasPrefix(imported+"/", library+"/") && !slices.Contains(vocabulary, imported) && !slices.Contains(strings.Fields(r.others), name) {
				problems = append(problems, fmt.Sprintf("%s imports %s, and %s must not know it: %s", path, imported, r.room, r.why))
			}
		}
	}
	return problems
}

// ruleOf is the place of the rule of a package: that of the longest room that it is in; -1 for none.
func ruleOf(path string) int {
	best := -1
	for i, r := range rules {
		if (path == r.room || strings.HasPrefix(path, r.room+"/")) && (best < 0 || len(r.room) > len(rules[best].room)) {
			best = i
		}
	}
	return best
}
