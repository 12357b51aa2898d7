package topology

import (
	"maps"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// document is the whole file. The structs of schema*.go, with the options that they embed, are the configuration language: a key
// that they do not name is unknown.
type document struct {
	Name      text            `yaml:"name" need:"true" doc:"the namespace of everything that is created: consumer groups are NAME-BINDING"`
	Guards    named[guard]    `yaml:"guards" doc:"who somebody is, by name"`
	Stores    named[anything] `yaml:"stores" doc:"read, and used by nothing"`
	Vaults    named[vault]    `yaml:"vaults" doc:"key stores and trust stores, by name"`
	Catalogs  named[catalog]  `yaml:"catalogs" doc:"protos, by name"`
	Bindings  named[binding]  `yaml:"bindings" need:"true" doc:"the steps of calls, by name"`
	Telemetry struct {
		Attributes named[text]     `yaml:"attributes" doc:"resource attributes on everything that is exported"`
		Metrics    []text          `yaml:"metrics" doc:"the metrics that bindings may select"`
		Exporters  named[exporter] `yaml:"exporters" doc:"where telemetry goes, by name"`
	} `yaml:"telemetry" doc:"what is measured, and where it goes"`
}

// guard knows who somebody is.
type guard struct {
	spot
	spec any
}

// inlineGuard is an identity that the file itself holds.
type inlineGuard struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Options struct {
		Identity    text     `yaml:"identity" doc:"what {identity} stands for in authorization"`
		Credentials text     `yaml:"credentials" doc:"what {credentials} stands for in authorization"`
		Format      anything `yaml:"format" instead:"the identity and the credentials are used as they are written"`
	} `yaml:"options"`
}

func (*guard) variants() map[string]any {
	return map[string]any{"inline": &inlineGuard{}, "jwt": &jwtGuard{}, "x509": &x509Guard{}}
}

func (g *guard) decode(d *decoder, n ast.Node, at position, p place) {
	g.locate(at, p)
	g.spec = d.variant(n, at, p, g.variants())
}

// vault is a key store and a trust store on disk.
type vault struct {
	spot
	Type    text `yaml:"type" need:"true" oneof:"filesystem" doc:"what kind of thing it is"`
	Options struct {
		Keys       storeFile `yaml:"keys" doc:"the store with private keys"`
		Trust      storeFile `yaml:"trust" doc:"the store with the certificates of authorities"`
		Signers    anything  `yaml:"signers" idle:"a certificate is named by keys, not found by its signer"`
		Revocation text      `yaml:"revocation" oneof:"crl" doc:"crl: certificates that are verified with this vault are held against the lists of their issuers, and are refused where these cannot be had"`
	} `yaml:"options"`
}

// storeFile is a store that a vault may do without: the bindings that need it say so.
type storeFile struct {
	store
	given bool
}

func (s *storeFile) inner() any { return &s.store }

func (s *storeFile) decode(d *decoder, n ast.Node, at position, p place) {
	s.given = true
	d.value(n, at, valueOf(&s.store), p, "")
}

type store struct {
	Store    text   `yaml:"store" need:"true" doc:"path of the store, relative to the file"`
	Type     text   `yaml:"type" oneof:"pkcs12 jks" later:"jceks" case:"any" doc:"its format; without it, either"`
	Password text   `yaml:"password" doc:"opens the store and its keys"`
	Entries  []text `yaml:"entries" doc:"the aliases that bindings may name; without it, all"`
}

// catalog holds protos, in files or in the configuration itself, or else the schemas of a registry.
type catalog struct {
	spot
	roots    []text
	subjects named[subject]
	registry *registrySpec
}

// subject is one proto: path, schema or fetched is set.
type subject struct {
	path, schema, version text

	fetched *RegistryProto // from the registry of a catalog
	catalog string
	quiet   bool // it need not have methods
}

type filesystemCatalog struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Options struct {
		Roots    []text `yaml:"roots" doc:"folders that imports of the protos are relative to"`
		Subjects named[struct {
			Path    text `yaml:"path" need:"true" doc:"path of the proto, relative to the file"`
			Version text `yaml:"version" doc:"the version that bindings may ask for"`
		}] `yaml:"subjects" need:"true" doc:"protos, by the names that bindings use"`
	} `yaml:"options"`
}

type inlineCatalog struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Options struct {
		Subjects named[struct {
			Schema  text `yaml:"schema" need:"true" doc:"the proto itself"`
			Version text `yaml:"version" doc:"the version that bindings may ask for"`
		}] `yaml:"subjects" need:"true" doc:"protos, by the names that bindings use"`
	} `yaml:"options"`
}

func (*catalog) variants() map[string]any {
	all := map[string]any{"filesystem": &filesystemCatalog{}, "inline": &inlineCatalog{}}
	for _, kind := range registryKinds {
		all[kind] = &registryCatalog{}
	}
	for _, kind := range apicurioKinds {
		all[kind] = &apicurioCatalog{}
	}
	return all
}

func (c *catalog) decode(d *decoder, n ast.Node, at position, p place) {
	c.locate(at, p)
	switch spec := d.variant(n, at, p, c.variants()).(type) {
	case *registryCatalog:
		c.registry = spec.spec()
	case *apicurioCatalog:
		c.registry = spec.spec()
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
	Type    text     `yaml:"type" doc:"what kind of thing it is"`
	Options anything `yaml:"options" doc:"read, and used by nothing"`
}

type otlpExporter struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Options struct {
		Interval int    `yaml:"interval" is:"count" default:"30" doc:"seconds between metrics"`
		Signals  []text `yaml:"signals" oneof:"metrics logs traces" doc:"what is exported; without it, traces and metrics"`
		Endpoint struct {
			Protocol  text `yaml:"protocol" oneof:"http grpc" doc:"how the collector is spoken to; without it, http"`
			Location  text `yaml:"location" doc:"URL of the collector"`
			Overrides struct {
				Logs    text `yaml:"logs" doc:"read, and used by nothing"`
				Metrics text `yaml:"metrics" doc:"path for metrics; without it, /v1/metrics"`
				Traces  text `yaml:"traces" doc:"path for traces; without it, /v1/traces"`
			} `yaml:"overrides" doc:"paths of the signals, in place of the usual ones"`
		} `yaml:"endpoint" doc:"where the collector is"`
		TLS           collectorTLS `yaml:"tls" doc:"certificates of the connection; without it, the authorities of the system count"`
		Credentials   headerValue  `yaml:"credentials.headers.authorization" doc:"the header authorization of each export"`
		Authorization anything     `yaml:"authorization" idle:"the header for the collector is named in options.credentials.headers"`
	} `yaml:"options"`
	Vault text `yaml:"vault" doc:"where keys and trust of the TLS are"`
}

// collectorTLS is how the connection to a collector is secured. It may be missing.
type collectorTLS struct {
	spot
	given bool
	outward
}

func (t *collectorTLS) inner() any { return &t.outward }

func (t *collectorTLS) decode(d *decoder, n ast.Node, at position, p place) {
	t.given = true
	d.value(n, at, valueOf(&t.outward), p, "")
}

type prometheusExporter struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Options struct {
		Endpoints []prometheusEndpoint `yaml:"endpoints" doc:"where metrics are scraped, on the admin address"`
	} `yaml:"options"`
}

type prometheusEndpoint struct {
	Scheme text `yaml:"scheme" oneof:"http" doc:"scheme of the address"`
	Port   text `yaml:"port" doc:"its number has no effect: the admin address is asked"`
	Path   text `yaml:"path" doc:"path of the metrics; without it, /metrics"`
}

func (*exporter) variants() map[string]any {
	return map[string]any{"stdout": &stdoutExporter{}, "otlp": &otlpExporter{}, "prometheus": &prometheusExporter{}}
}

func (e *exporter) decode(d *decoder, n ast.Node, at position, p place) {
	e.locate(at, p)
	e.spec = d.variant(n, at, p, e.variants())
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
