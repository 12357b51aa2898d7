package views_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The document is generated from the proto, names exactly the parameters that are taken, and has all that is answered.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.put("a", aRow())
	i := b.started()
	_, served := i.get(t, "/openapi.json", nil)

	fresh := filepath.Join(t.TempDir(), "openapi.json")
	generate := exec.Command("go", "run", "../../internal/genopenapi", "views.proto", fresh)
	generate.Dir = "viewspb"
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want, err := os.ReadFile(fresh); err != nil || !bytes.Equal(want, []byte(served)) {
		t.Errorf("openapi.json is not what views.proto makes of it (%v): run task generate", err)
	}

	type schema struct {
		Ref        string `json:"$ref"`
		Properties map[string]schema
		Items      *schema
	}
	var document struct {
		Paths map[string]struct {
			Get struct {
				Parameters []struct{ Name, In string }
				Responses  map[string]struct {
					Content map[string]struct{ Schema schema }
				}
			}
		}
		Components struct{ Schemas map[string]schema }
	}
	if err := json.Unmarshal([]byte(served), &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Paths) != 6 {
		t.Errorf("%d paths", len(document.Paths))
	}
	var known func(at string, value any, s schema)
	known = func(at string, value any, s schema) {
		if s.Ref != "" {
			s = document.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		}
		switch v := value.(type) {
		case map[string]any:
			if at == "json" || s.Properties == nil {
				return
			}
			for name, inner := range v {
				property, ok := s.Properties[name]
				if !ok {
					t.Errorf("%s.%s is answered, but not described", at, name)
				}
				known(at+"."+name, inner, property)
			}
		case []any:
			for _, inner := range v {
				known(at, inner, *s.Items)
			}
		}
	}
	for path, item := range document.Paths {
		url := strings.ReplaceAll(path, "{key}", "a")
		if item.Get.Responses == nil { // it does something, and this copy of the table works on nothing
			response, err := i.server.Client().Post(i.url+url, "application/json", strings.NewReader(`{"keys": [{"key": "a"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if _ = response.Body.Close(); err != nil || !strings.Contains(string(body), "does not work on it") {
				t.Errorf("%s: %s, %v", path, body, err)
			}
			continue
		}
		// The message about an unknown parameter names those that there are.
		var failure struct{ Message string }
		i.get(t, url+"?nonsense=1", &failure)
		var takes []string
		for _, p := range item.Get.Parameters {
			if p.In == "query" {
				takes = append(takes, p.Name)
			}
		}
		slices.Sort(takes)
		want := "there are " + strings.Join(takes, ", ")
		if len(takes) == 0 {
			want = "there are none"
		}
		if !strings.HasSuffix(failure.Message, want) {
			t.Errorf("%s: %q is said of the parameters, and %q described", path, failure.Message, want)
		}
		described, plain := item.Get.Responses["200"].Content["application/json"]
		if !plain {
			continue
		}
		var answer any
		if status, body := i.get(t, url, &answer); status != http.StatusOK {
			t.Errorf("%s: status %d: %s", path, status, body)
		}
		known(path, answer, described.Schema)
	}
}
