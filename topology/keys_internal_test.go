package topology

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const keysPage = "../docs/configuration.md"

// The table of keys in the documentation is the schema: each key of each binding, vault and catalog, with what becomes of
// it. A key that is added, supported or refused changes the page, or fails here.
func TestDocumentedKeys(t *testing.T) {
	page, err := os.ReadFile(keysPage)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := []byte("<!-- keys: begin -->\n"), []byte("<!-- keys: end -->\n")
	i, j := bytes.Index(page, begin), bytes.Index(page, end)
	if i < 0 || j < i {
		t.Fatalf("%s has no place for the table of keys", keysPage)
	}
	i += len(begin)
	want := keyTables()
	if *Update {
		if err := os.WriteFile(keysPage, slices.Concat(page[:i], []byte(want), page[j:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(page[i:j])); diff != "" {
		t.Errorf("the table of keys in %s is not the schema's; `task golden` rewrites it (-want +got):\n%s", keysPage, diff)
	}
}

func keyTables() string {
	var b strings.Builder
	table := func(title string, rows [][2]string) {
		fmt.Fprintf(&b, "\n### %s\n\n| key | |\n|---|---|\n", title)
		for _, row := range rows {
			fmt.Fprintf(&b, "| `%s` | %s |\n", row[0], row[1])
		}
	}
	types := specs()
	for _, kind := range slices.Sorted(maps.Keys(types)) {
		var alike []string // kinds with the same keys
		var rows [][2]string
		for _, name := range slices.Sorted(maps.Keys(types[kind])) {
			spec := types[kind][name]
			if spec == nil {
				spec = &struct{}{}
			}
			next := keysOf(valueOf(spec), "")
			if len(alike) > 0 && !slices.Equal(rows, next) {
				table("`"+kind+"` binding, "+strings.Join(alike, " and "), rows)
				alike = nil
			}
			alike, rows = append(alike, name), next
		}
		table("`"+kind+"` binding, "+strings.Join(alike, " and "), rows)
	}
	table("`stdout` exporter", keysOf(valueOf(&stdoutExporter{}), ""))
	table("`otlp` exporter", keysOf(valueOf(&otlpExporter{}), ""))
	table("`prometheus` exporter", keysOf(valueOf(&prometheusExporter{}), ""))
	table("`inline` guard", keysOf(valueOf(&inlineGuard{}), ""))
	table("`jwt` guard", keysOf(valueOf(&jwtGuard{}), ""))
	table("`x509` guard", keysOf(valueOf(&x509Guard{}), ""))
	table("`filesystem` vault", keysOf(valueOf(&vault{}), ""))
	table("`filesystem` catalog", keysOf(valueOf(&filesystemCatalog{}), ""))
	table("`inline` catalog", keysOf(valueOf(&inlineCatalog{}), ""))
	table("`schema-registry` and `karapace` catalog, also `confluent-schema-registry` and `karapace-schema-registry`", keysOf(valueOf(&registryCatalog{}), ""))
	table("`apicurio` catalog, also `apicurio-registry`", keysOf(valueOf(&apicurioCatalog{}), ""))
	return b.String() + "\n"
}

// keysOf are the keys below a struct with what becomes of them.
func keysOf(v reflect.Value, prefix string) (rows [][2]string) {
	for _, f := range fieldsOf(v) {
		key, value := prefix+f.key, f.value
		if key == "type" || key == "kind" {
			continue // in the title
		}
		if f.Tag.Get("later") == "*" {
			rows = append(rows, [2]string{key, "refused: not supported yet"})
			continue
		}
		if instead := f.Tag.Get("instead"); instead != "" {
			rows = append(rows, [2]string{key, "refused: " + instead})
			continue
		}
		if why := f.Tag.Get("idle"); why != "" {
			rows = append(rows, [2]string{key, "no effect, with a warning: " + why})
			continue
		}
		if w, ok := value.Addr().Interface().(wrapping); ok {
			rows = append(rows, keysOf(valueOf(w.inner()), key+".")...)
			continue
		}
		if element, named := elementOf(value); element.IsValid() {
			many := "[]."
			if named {
				many = ".<name>."
			}
			rows = append(rows, keysOf(element, key+many)...)
			continue
		}
		_, isScalar := value.Addr().Interface().(scalar)
		_, special := value.Addr().Interface().(decodable)
		if value.Kind() == reflect.Struct && !isScalar && !special {
			rows = append(rows, keysOf(value, key+".")...)
			continue
		}
		rows = append(rows, [2]string{key, supported(f)})
	}
	return rows
}

// elementOf is what a list of mappings, or a mapping whose names are the user's, holds; invalid for anything else.
func elementOf(v reflect.Value) (element reflect.Value, named bool) {
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	of := v.Type().Elem()
	if m, ok := v.Addr().Interface().(mapped); ok {
		of, named = reflect.TypeOf(m.element()).Elem(), true
		if of.Kind() == reflect.Slice {
			of = of.Elem()
		}
	}
	element = reflect.New(of).Elem()
	if _, isScalar := element.Addr().Interface().(scalar); isScalar || of.Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	return element, named
}

func supported(f field) string {
	text := "supported"
	if f.Tag.Get("need") != "" {
		text += ", needed"
	}
	if values := strings.Fields(f.Tag.Get("oneof")); len(values) > 0 {
		text += ": `" + strings.Join(values, "`, `") + "`"
	}
	if values := strings.Fields(f.Tag.Get("later")); len(values) > 0 {
		text += "; not supported yet: `" + strings.Join(values, "`, `") + "`"
	}
	if given := f.Tag.Get("default"); given != "" {
		text += ", default `" + given + "`"
	}
	return text
}
