package views

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"kafkagrpc/views/viewspb"
)

// The proto declares the filters. Those that it has are taken everywhere, and described.
func TestFilterFields(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../docs/views.md")
	if err != nil {
		t.Fatal(err)
	}
	_, parameters, _ := strings.Cut(string(docs), "| `GET /v1/keys` |")
	parameters, _, _ = strings.Cut(parameters, "\n")
	var names, declared []string
	for _, f := range FilterFields {
		names = append(names, f.Name)
		if f.Help == "" || f.test == nil {
			t.Errorf("%s has no help, or tests nothing", f.Name)
		}
		if !strings.Contains(parameters, "`"+f.Name+"`") {
			t.Errorf("docs/views.md does not describe %s", f.Name)
		}
	}
	fields := new(viewspb.Filter).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		declared = append(declared, string(fields.Get(i).Name()))
	}
	if !slices.Equal(names, declared) {
		t.Errorf("filters are %q, and the proto declares %q", names, declared)
	}
}

// A cursor is of one query, however its filter is spelled.
func TestSumsOfQueries(t *testing.T) {
	t.Parallel()
	at := timestamppb.New(time.Unix(1_700_000_000, 5))
	seen := map[uint64]*viewspb.Filter{}
	for _, filter := range []*viewspb.Filter{
		nil,
		{Prefix: "a"},
		{Service: "a"},
		{Method: "a"},
		{Status: "OK"},
		{State: "final"},
		{Since: at},
		{Until: at},
		{Prefix: "a", Service: "b", Method: "c", Status: "OK", State: "open", Since: at, Until: at},
	} {
		of := sum("group", filter)
		if other, ok := seen[of]; ok {
			t.Errorf("%v has the sum of %v", filter, other)
		}
		seen[of] = filter
	}
	if sum("group", &viewspb.Filter{Status: "not_found", State: "FINAL"}) != sum("group", &viewspb.Filter{Status: "NOT_FOUND", State: "final"}) {
		t.Error("a query has two sums")
	}
	if sum("group", nil) == sum("other", nil) {
		t.Error("two groups have the same sum")
	}
}
