package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
)

// block is a piece of YAML in the documentation.
type block struct {
	page string
	line int
	text string
}

func yamlBlocks(t *testing.T, page string) (blocks []block) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var inside *block
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case inside != nil && strings.HasPrefix(line, "```"):
			blocks, inside = append(blocks, *inside), nil
		case inside != nil:
			inside.text += line + "\n"
		case strings.HasPrefix(line, "```yaml"):
			inside = &block{page: page, line: i + 2}
		}
	}
	return blocks
}

// Every YAML block of the documentation is right, as check sees it. A block without `name` is a part that is put into the seed's
// file: mappings are merged, everything else is replaced. One with nothing but `options` means those of the kafka-grpc binding.
func TestDocumentedYAML(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	for _, page := range append(pages, "../../README.md") {
		blocks = append(blocks, yamlBlocks(t, page)...)
	}
	if len(blocks) == 0 {
		t.Fatal("no YAML found in the documentation")
	}
	text, err := topology.Schema()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := compileSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := embedded.WriteSeed(dir, pkitest.Password); err != nil {
		t.Fatal(err)
	}
	authority := pkitest.NewAuthority(t, "authority")
	pkitest.WriteKey(t, filepath.Join(dir, "tls", "client.p12"), authority.Issue(t, "client"))
	pkitest.WriteTrust(t, filepath.Join(dir, "tls", "trust.p12"), map[string]*x509.Certificate{"authority": authority.Certificate})
	seed, err := os.ReadFile(filepath.Join(dir, "zilla.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	env := environment("KAFKA_USER", "ann", "KAFKA_PASSWORD", "secret-word", "COLLECTOR_TOKEN", "secret-word", "REGISTRY_CREDENTIALS", "YW5uOnNlY3JldA==",
		"CLIENT_SECRET", "secret-word", "KAFKA_TOKEN", "eyJhbGciOiJub25lIn0.e30.")
	for i, b := range blocks {
		t.Run(fmt.Sprintf("%s:%d", filepath.Base(b.page), b.line), func(t *testing.T) {
			var part map[string]any
			if err := yaml.Unmarshal([]byte(b.text), &part); err != nil {
				t.Fatal(err)
			}
			text := []byte(b.text)
			if _, whole := part["name"]; !whole {
				var file map[string]any
				if err := yaml.Unmarshal(seed, &file); err != nil {
					t.Fatal(err)
				}
				if _, options := part["options"]; options && len(part) == 1 {
					part = map[string]any{"bindings": map[string]any{"west_kafka_grpc_remote_server": part}}
				}
				merge(file, part)
				if text, err = yaml.Marshal(file); err != nil {
					t.Fatal(err)
				}
			}
			var file any
			if err := yaml.Unmarshal(text, &file); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(file); err != nil {
				t.Error(err)
			}
			path := filepath.Join(dir, fmt.Sprintf("block-%d.yaml", i))
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			if code := execute(t.Context(), []string{"check", "-c", path}, &out, &errs, env); code != exitOK {
				t.Errorf("exit code %d: %s", code, &errs)
			}
		})
	}
}

func compileSchema(text []byte) (*jsonschema.Schema, error) {
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("zilla.json", parsed); err != nil {
		return nil, err
	}
	return compiler.Compile("zilla.json")
}

func merge(into, part map[string]any) {
	for key, value := range part {
		inner, isMap := value.(map[string]any)
		old, wasMap := into[key].(map[string]any)
		if isMap && wasMap {
			copied := maps.Clone(old)
			merge(copied, inner)
			value = copied
		}
		into[key] = value
	}
}
