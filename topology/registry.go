package topology

import (
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Registry is a catalog whose schemas a schema registry has.
type Registry struct {
	Catalog       string
	URL           string // without a user
	Context       string // "": that of the registry itself
	MaxAge        time.Duration
	Authorization Secret     // value of the header, "" for none
	TLS           *ClientTLS // nil: plaintext

	Apicurio  bool   // it is one of Apicurio's, and else speaks the protocol of Confluent's
	Group     string // of Apicurio's artifacts
	ContentID bool   // Apicurio's ids are those of contents, and else global ones
	IDBytes   int    // of the id in values: 8, or else 4
}

// SchemaRef names a schema of a registry: by its id, or as a version of a subject.
type SchemaRef struct {
	ID      int
	Subject string
	Version int // 0: the latest
}

func (r SchemaRef) String() string {
	switch {
	case r.ID != 0:
		return "schema " + strconv.Itoa(r.ID)
	case r.Version != 0:
		return "subject " + r.Subject + " version " + strconv.Itoa(r.Version)
	}
	return "subject " + r.Subject
}

// loadRegistries makes the registries of all catalogs that are some.
func (c *compiler) loadRegistries() (all []*Registry) {
	for _, catalog := range c.doc.Catalogs {
		if spec := catalog.value.registry; spec != nil {
			r := c.registry(catalog.name.value, &catalog.value, spec)
			c.registries[r.Catalog] = r
			all = append(all, r)
		}
	}
	return all
}

func (c *compiler) registry(name string, of *catalog, o *registrySpec) *Registry {
	r := &o.registry
	r.Catalog, r.MaxAge, r.Authorization = name, time.Duration(o.MaxAge)*time.Second, Secret(o.Authorization.value)
	if o.Authorization.ok && !httpguts.ValidHeaderFieldValue(o.Authorization.value) {
		c.report.problem(o.Authorization.position, "%s has characters that no header can have", o.Authorization.place)
	}
	at := c.registryURL(o.URL)
	if at == nil {
		return r
	}
	if user := at.User; user != nil {
		password, _ := user.Password()
		if o.Authorization.given {
			c.report.problem(o.URL.position, "%s names a user, and so does %s; remove one of them", o.URL.place, o.Authorization.place)
		}
		r.Authorization = Secret("Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
		at.User = nil
	}
	r.URL = strings.TrimSuffix(at.String(), "/")
	t := &o.TLS
	switch needs := slices.Concat(t.Keys, t.Trust); {
	case at.Scheme == "https":
		if len(needs) > 0 && !o.vault.given {
			c.report.problem(needs[0].position, "%s: %s names no `vault` to take it from; add one", needs[0].place, of.place)
			break
		}
		r.TLS = &ClientTLS{Binding: name, Config: &tls.Config{MinVersion: tls.VersionTLS12}}
		if v := c.vault(o.vault); v != nil && len(t.Keys) > 0 {
			r.TLS.Config.Certificates = c.certificates(o.vault, v, t.Keys)
		}
		r.TLS.Config.RootCAs = c.roots(of.spot, o.vault, t.Trust, t.TrustCACerts)
		r.TLS.Config.VerifyConnection = c.revocation(o.vault, c.vault(o.vault))
	case len(needs) > 0:
		c.report.warn(needs[0].position, "%s has no effect: the url of the registry does not begin with https", needs[0].place)
	}
	if at.Scheme == "http" && r.Authorization != "" {
		where := cmp.Or(o.Authorization.position, o.URL.position)
		c.report.warn(where, "%s sends its credentials in the clear; use a url with https", of.place)
	}
	return r
}

// registryURL is where a registry is. What is wrong with it is told without the url, which may hold a password.
func (c *compiler) registryURL(t text) *url.URL {
	if !t.ok {
		return nil
	}
	at, err := url.Parse(t.value)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" || at.RawQuery != "" || at.Fragment != "" {
		c.report.problem(t.position, "%s must be a url such as https://registry.example:8081, without a query", t.place)
		return nil
	}
	return at
}

// registryFor is the registry that a route names for the schemas of values; nil where there is none, which is reported where it is needed.
func registryFor[R any](c *compiler, encoding text, refs named[R]) *Registry {
	if len(refs) == 0 && encoding.ok && encoding.value == EncodingAvro {
		c.report.problem(encoding.position, "%s: Avro needs the schemas of a registry; add `catalog` beside it, with a catalog of type schema-registry", encoding.place)
	}
	if len(refs) == 0 {
		return nil
	}
	if len(refs) > 1 {
		c.report.problem(refs[1].name.position, "%s names several catalogs; name one", refs[1].name.place)
		return nil
	}
	name := refs[0].name
	catalog, ok := c.doc.Catalogs.get(name.value)
	switch {
	case !ok:
		c.report.problem(name.position, "catalog `%s` of %s does not exist%s", name.value, name.place, hint(name.value, c.doc.Catalogs.names()))
	case catalog.registry == nil && len(catalog.subjects) > 0:
		c.report.problem(name.position, "catalog `%s` of %s is no schema registry; name a catalog of type schema-registry", name.value, name.place)
	case catalog.registry != nil:
		c.registriesUsed[name.value] = true
		return c.registries[name.value]
	}
	return nil
}

// unusedRegistries warns of registries that nothing needs.
func (c *compiler) unusedRegistries() {
	for _, catalog := range c.doc.Catalogs {
		if catalog.value.registry != nil && !c.registriesUsed[catalog.name.value] {
			c.report.warn(catalog.name.position, "catalog `%s` is not used: no grpc binding and no route of plain events names it", catalog.name.value)
		}
	}
}

// schemaRef is the schema that replies are written with, which go to a topic and are messages of a name.
func (c *compiler) schemaRef(catalog text, refs []schemaRef, topic, message string) SchemaRef {
	if len(refs) != 1 {
		c.report.problem(catalog.position, "%s must name one schema of catalog `%s`: its `subject`, its `strategy` or its `id`", catalog.place, catalog.value)
		return SchemaRef{}
	}
	r := refs[0]
	ways := 0
	for _, t := range []text{r.Subject, r.ID.text, r.Strategy} {
		if t.given {
			ways++
		}
	}
	if ways != 1 {
		c.report.problem(r.at, "%s must have one of `subject`, `strategy` and `id`", r.place)
	}
	if r.ID.given && r.Version.given {
		c.report.problem(r.Version.position, "%s has no effect: an id is of one version; remove it", r.Version.place)
	}
	ref := SchemaRef{Subject: r.Subject.value, ID: numberOf(r.ID.text), Version: numberOf(r.Version.text)}
	switch r.Strategy.value {
	case "topic":
		ref.Subject = topic + "-value"
	case "record":
		ref.Subject = message
	case "topic-record":
		ref.Subject = topic + "-" + message
	}
	return ref
}

// numberOf is a number of the file that is legal, 0 where there is none.
func numberOf(t text) int {
	n, _ := strconv.Atoi(t.value)
	if !t.ok {
		return 0
	}
	return n
}

// security is how a registry is spoken to, for people.
func (r *Registry) security() string {
	var how []string
	if r.TLS != nil {
		how = append(how, "TLS")
		if len(r.TLS.Config.Certificates) > 0 {
			how[0] = "mutual TLS"
		}
		if r.TLS.Config.VerifyConnection != nil {
			how[0] += " with revocation lists"
		}
	}
	if r.Authorization != "" {
		how = append(how, "credentials")
	}
	return strings.Join(how, ", ")
}

func registryJSON(r *Registry) object {
	all := object{
		{"catalog", r.Catalog},
		{"url", r.URL},
		{"context", optional(r.Context)},
		{"max-age", r.MaxAge.String()},
		{"credentials", r.Authorization != ""},
		{"tls", clientTLSJSON(r.TLS)},
	}
	if r.Apicurio {
		id := "globalId"
		if r.ContentID {
			id = "contentId"
		}
		all = append(all, object{{"group-id", r.Group}, {"use-id", id}, {"id-bytes", r.IDBytes}}...)
	}
	return all
}
