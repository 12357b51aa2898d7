package topology

import (
	"maps"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// document is the whole file. The structs of schema*.go, with the options that they embed, are the configuration language: a key
// that they do not name is unknown.
type document struct {
	Name      text            `yaml:"name" need:"true"`
	Guards    named[guard]    `yaml:"guards"`
	Stores    named[anything] `yaml:"stores"`
	Vaults    named[vault]    `yaml:"vaults"`
	Catalogs  named[catalog]  `yaml:"catalogs"`
	Bindings  named[binding]  `yaml:"bindings" need:"true"`
	Telemetry struct {
		Attributes named[text]     `yaml:"attributes"`
		Metrics    []text          `yaml:"metrics"`
		Exporters  named[exporter] `yaml:"exporters"`
	} `yaml:"telemetry"`
}

// guard knows who somebody is.
type guard struct {
	spot
	spec any
}

// inlineGuard is an identity that the file itself holds.
type inlineGuard struct {
	Type    text `yaml:"type"`
	Options struct {
		Identity    text     `yaml:"identity"`
		Credentials text     `yaml:"credentials"`
		Format      anything `yaml:"format" instead:"the identity and the credentials are used as they are written"`
	} `yaml:"options"`
}

// callerGuard is one of a type that tells who calls. None is asked yet: what refers to it is refused.
type callerGuard struct {
	Type    text     `yaml:"type"`
	Options anything `yaml:"options"`
	Vault   anything `yaml:"vault"`
}

func (g *guard) decode(d *decoder, n ast.Node, at position, p place) {
	g.locate(at, p)
	g.spec = d.variant(n, at, p, map[string]any{"inline": &inlineGuard{}, "jwt": &callerGuard{}, "x509": &callerGuard{}})
}

// vault is a key store and a trust store on disk.
type vault struct {
	spot
	Type    text `yaml:"type" need:"true" oneof:"filesystem"`
	Options struct {
		Keys       storeFile `yaml:"keys"`
		Trust      storeFile `yaml:"trust"`
		Signers    anything  `yaml:"signers" idle:"a certificate is named by keys, not found by its signer"`
		Revocation anything  `yaml:"revocation" instead:"lists of revoked certificates are not read, so a revoked one would be let in; where that must not be, let certificates expire soon, and trust an authority of your own"`
	} `yaml:"options"`
}

// storeFile is a store that a vault may do without: the bindings that need it say so.
type storeFile struct {
	store
	given bool
}

func (s *storeFile) decode(d *decoder, n ast.Node, at position, p place) {
	s.given = true
	d.value(n, at, valueOf(&s.store), p, "")
}

type store struct {
	Store    text   `yaml:"store" need:"true"`
	Type     text   `yaml:"type" oneof:"pkcs12 jks" later:"jceks" case:"any"`
	Password text   `yaml:"password"`
	Entries  []text `yaml:"entries"`
}

// catalog holds protos, in files or in the configuration itself.
type catalog struct {
	spot
	roots    []text
	subjects named[subject]
}

// subject is one proto: path or schema is set.
type subject struct{ path, schema, version text }

type filesystemCatalog struct {
	Type    text `yaml:"type"`
	Options struct {
		Roots    []text `yaml:"roots"`
		Subjects named[struct {
			Path    text `yaml:"path" need:"true"`
			Version text `yaml:"version"`
		}] `yaml:"subjects" need:"true"`
	} `yaml:"options"`
}

type inlineCatalog struct {
	Type    text `yaml:"type"`
	Options struct {
		Subjects named[struct {
			Schema  text `yaml:"schema" need:"true"`
			Version text `yaml:"version"`
		}] `yaml:"subjects" need:"true"`
	} `yaml:"options"`
}

func (c *catalog) decode(d *decoder, n ast.Node, at position, p place) {
	c.locate(at, p)
	switch spec := d.variant(n, at, p, map[string]any{"filesystem": &filesystemCatalog{}, "inline": &inlineCatalog{}}).(type) {
	case *filesystemCatalog:
		c.roots = spec.Options.Roots
		for _, s := range spec.Options.Subjects {
			c.subjects = append(c.subjects, entry[subject]{s.name, subject{path: s.value.Path, version: s.value.Version}})
		}
	case *inlineCatalog:
		for _, s := range spec.Options.Subjects {
			c.subjects = append(c.subjects, entry[subject]{s.name, subject{schema: s.value.Schema, version: s.value.Version}})
		}
	}
}

// exporter is where telemetry goes.
type exporter struct {
	spot
	spec any
}

type stdoutExporter struct {
	Type    text     `yaml:"type"`
	Options anything `yaml:"options"`
}

type otlpExporter struct {
	Type    text `yaml:"type"`
	Options struct {
		Interval int    `yaml:"interval" is:"count" default:"30"` // seconds
		Signals  []text `yaml:"signals" oneof:"metrics logs traces"`
		Endpoint struct {
			Protocol  text `yaml:"protocol" oneof:"http grpc"`
			Location  text `yaml:"location"`
			Overrides struct {
				Logs    text `yaml:"logs"`
				Metrics text `yaml:"metrics"`
				Traces  text `yaml:"traces"`
			} `yaml:"overrides"`
		} `yaml:"endpoint"`
		TLS           collectorTLS `yaml:"tls"`
		Credentials   headerValue  `yaml:"credentials.headers.authorization"`
		Authorization anything     `yaml:"authorization" idle:"the header for the collector is named in options.credentials.headers"`
	} `yaml:"options"`
	Vault text `yaml:"vault"`
}

// collectorTLS is how the connection to a collector is secured. It may be missing.
type collectorTLS struct {
	spot
	given bool
	outward
}

func (t *collectorTLS) decode(d *decoder, n ast.Node, at position, p place) {
	t.given = true
	d.value(n, at, valueOf(&t.outward), p, "")
}

type prometheusExporter struct {
	Type    text `yaml:"type"`
	Options struct {
		Endpoints []prometheusEndpoint `yaml:"endpoints"`
	} `yaml:"options"`
}

type prometheusEndpoint struct {
	Scheme text `yaml:"scheme" oneof:"http"`
	Port   text `yaml:"port"`
	Path   text `yaml:"path"`
}

func (e *exporter) decode(d *decoder, n ast.Node, at position, p place) {
	e.locate(at, p)
	e.spec = d.variant(n, at, p, map[string]any{"stdout": &stdoutExporter{}, "otlp": &otlpExporter{}, "prometheus": &prometheusExporter{}})
}

// variant reads a mapping into the struct that its `type` names, and returns it; nil when the type is unusable.
func (d *decoder) variant(n ast.Node, at position, p place, specs map[string]any) any {
	pairs, ok := d.pairs(n, p)
	if !ok {
		return nil
	}
	known := slices.Sorted(maps.Keys(specs))
	name, ok := d.choice(pairs, "type", at, p, known)
	if !ok {
		return nil
	}
	return d.fill(specs[name], pairs, at, p)
}

// fill reads the keys of a mapping into the struct that is chosen for it, and returns it.
func (d *decoder) fill(spec any, pairs []pair, at position, p place) any {
	setDefaults(valueOf(spec))
	d.fields(pairs, at, fieldsOf(valueOf(spec)), p)
	return spec
}

// choice reads a key whose value decides what the other keys mean.
func (d *decoder) choice(pairs []pair, key string, at position, p place, known []string) (string, bool) {
	i := slices.IndexFunc(pairs, func(p pair) bool { return p.key.value == key })
	if i < 0 {
		d.report.problem(at, "%s is missing%s", p.key(key), hint("", known))
		return "", false
	}
	t := d.text(pairs[i].value, p.key(key))
	if t.ok && !slices.Contains(known, t.value) {
		d.report.problem(t.position, "unknown %s `%s` of %s%s", key, t.raw, p, hint(t.value, known))
		t.ok = false
	}
	return t.value, t.ok
}
