package topology_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"kafkagrpc/topology"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := topology.Schema()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("zilla.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("zilla.json") // and checks it against the schema of schemas
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// asJSON is a file of YAML as editors hand it to a schema.
func asJSON(t *testing.T, path string) (any, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(text))
}

func TestSchemaTakesGoodFiles(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	good := slices.Concat(walk(t, "testdata/*.good.yaml"), walk(t, "../deploy/examples/*.yaml"), walk(t, "../deploy/examples/*/*.yaml"), []string{seed})
	for _, path := range good {
		t.Run(strings.TrimPrefix(path, "../"), func(t *testing.T) {
			t.Parallel()
			file, err := asJSON(t, path)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(file); err != nil {
				t.Errorf("%#v", err)
			}
		})
	}
}

// shaped are problems of the shape of a file, and not of what its names mean; unshaped are those that look like them, of which a
// schema cannot know.
var (
	shaped = regexp.MustCompile("^[0-9:]+ .*(unknown (key|type|kind) `|is missing(; add it$|; known:)|must be (a mapping|a list|a single value),|" +
		"is not supported|is empty|has no value|must be .*, not `)")
	unshaped = regexp.MustCompile("must be host:port, such as|`max`, which is|must be one port|not `[$*]|must be the URL of|URL of a collector|" +
		"must be another (header|metadata) name|must be the same for every call|must be a positive duration|must be a duration from|path such as|trusts nobody|the name must be|not `\\.\\.`|the name of a metric")
	// at is what a problem is about, and the binding that this is of.
	at = regexp.MustCompile("`([a-z][^`]*)`(?: of (?:binding `([^`]+)`))?")
	// steps are the keys and indices of a place.
	steps = regexp.MustCompile(`[^.\[\]]+`)
)

// A schema refuses what is of the wrong shape, and every bad file that has such a problem, at the place of the problem or around it.
func TestSchemaRefusesBadFiles(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	caught := 0
	for _, path := range walk(t, "testdata/*.bad.yaml") {
		file, err := asJSON(t, path)
		if err != nil {
			continue // no YAML
		}
		refused := map[string]bool{}
		if err := schema.Validate(file); err != nil {
			caught++
			places(err.(*jsonschema.ValidationError), refused)
		}
		for _, want := range head(t, path, "# want: ") {
			if !shaped.MatchString(want) || unshaped.MatchString(want) {
				continue
			}
			if len(refused) == 0 {
				t.Errorf("%s is valid, in spite of %s", path, want)
			}
			for _, found := range at.FindAllStringSubmatch(want, 1) {
				place := strings.Join(steps.FindAllString(found[1], -1), "/")
				if found[2] != "" {
					place = "bindings/" + found[2] + "/" + place
				}
				if strings.Contains(want, "unknown") || strings.Contains(want, "` in `") {
					continue // the place comes second
				}
				near := false
				for r := range refused {
					near = near || strings.HasPrefix(place, r) && strings.Count(place, "/")-strings.Count(r, "/") <= 2
				}
				if !near {
					t.Errorf("%s: nothing at %s in %v, in spite of %s", path, place, slices.Sorted(maps.Keys(refused)), want)
				}
			}
		}
	}
	if caught < 30 {
		t.Errorf("%d bad files are refused", caught)
	}
}

// places are where an error has its causes.
func places(e *jsonschema.ValidationError, all map[string]bool) {
	if len(e.Causes) == 0 {
		all[strings.Join(e.InstanceLocation, "/")] = true
	}
	for _, cause := range e.Causes {
		places(cause, all)
	}
}

// Every key of the schema says what it is, but for those whose keys do.
func TestSchemaDescribesKeys(t *testing.T) {
	t.Parallel()
	text, err := topology.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	keys, defaults := 0, 0
	var walk func(path string, v any)
	walk = func(path string, v any) {
		of, ok := v.(map[string]any)
		if !ok {
			for i, element := range list(v) {
				walk(fmt.Sprintf("%s/%d", path, i), element)
			}
			return
		}
		if properties, ok := of["properties"].(map[string]any); ok && of["additionalProperties"] == false && of["deprecated"] == nil {
			for name, p := range properties {
				keys++
				p := p.(map[string]any)
				if p["default"] != nil {
					defaults++
				}
				if p["description"] == nil && p["properties"] == nil {
					t.Errorf("%s/%s has no description", path, name)
				}
			}
		}
		for name, inner := range of {
			walk(path+"/"+name, inner)
		}
	}
	walk("", whole)
	if keys < 300 || defaults < 20 {
		t.Errorf("%d keys, %d with defaults", keys, defaults)
	}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
