package topology

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile/linker"

	"kafkagrpc/internal/keystore"
)

// compiler flattens the checked graph. Where a reference is broken it goes on without a word, since the graph's
// check has reported it.
type compiler struct {
	report  *report
	options Options
	dir     string // relative paths start here
	doc     *document
	texts   map[any]text // of the decoder
	said    map[place]mention
	graph   *graph
	methods Methods
	protos  Protos

	protoNames protoNames
	guarding   map[string]bool   // guards that something refers to
	callers    map[string]*Guard // those that tell who calls, by name

	clusters       map[string]*Cluster // by name of the kafka client binding
	north          map[string][]NorthRoute
	tls            map[string]*ServerTLS
	web            map[string]*Browsers  // by name of the http server binding
	webServed      map[string]bool       // those that browsers reach
	outward        map[string]*ClientTLS // by name of the tls client binding
	registries     map[string]*Registry  // by catalog
	registriesUsed map[string]bool
	registryProtos []ProtoOfRegistry
	files          map[subjectKey]linker.File // of protos
	models         map[*modelValues]*Model    // nil: it is wrong, which is reported
	topicsUsed     map[*cacheTopic]bool       // records pass it
	requests       map[*cacheTopic]bool       // which a remote reads
	transforms     map[*cacheTopic]bool       // are made
	misfits        map[*cacheTopic]bool       // are reported
	unread         bool                       // protos of registries are not asked for

	keystores map[string]*keystore.Store // by vault; nil: cannot be used, which is reported
	trusted   map[string]*keystore.Store // the same
	revoking  map[string]bool            // vaults with which certificates are verified
}

// compile checks everything and builds the topology. It is complete only if no problem was reported.
func (c *compiler) compile(file string) *Topology {
	c.protoNames = protoNames{byFile: map[string]string{}, taken: map[string]bool{}}
	c.clusters, c.north = map[string]*Cluster{}, map[string][]NorthRoute{}
	c.web, c.webServed = map[string]*Browsers{}, map[string]bool{}
	c.tls, c.outward = map[string]*ServerTLS{}, map[string]*ClientTLS{}
	c.keystores, c.trusted = map[string]*keystore.Store{}, map[string]*keystore.Store{}
	c.guarding, c.revoking = map[string]bool{}, map[string]bool{}
	c.registries, c.registriesUsed = map[string]*Registry{}, map[string]bool{}
	c.callers = c.callerGuards()
	c.files, c.models = map[subjectKey]linker.File{}, map[*modelValues]*Model{}
	c.topicsUsed, c.requests, c.transforms, c.misfits = map[*cacheTopic]bool{}, map[*cacheTopic]bool{}, map[*cacheTopic]bool{}, map[*cacheTopic]bool{}
	c.graph = newGraph(c.report, c.doc)
	c.graph.check()
	registries := c.loadRegistries()
	c.methods = c.loadCatalogs()

	t := &Topology{
		File: file, Namespace: c.doc.Name.value, Methods: c.methods, Protos: c.protos, Registries: registries, RegistryProtos: c.registryProtos, said: c.said,
	}
	runs := false
	for b := range c.graph.each {
		runs = runs || b.kind == "tcp server" || b.kind == "kafka-grpc remote_server" || b.kind == ""
		c.binding(b)
		switch spec := b.spec.(type) {
		case *tcpServer:
			t.Listeners = append(t.Listeners, c.listeners(b, spec)...)
		case *kafkaGRPC:
			t.Remotes = append(t.Remotes, c.remote(b, spec))
		}
	}
	c.unreachedBrowsers()
	c.unusedTopics()
	c.unusedRegistries()
	t.Guards = t.usedGuards(c.callers)
	t.Telemetry = c.telemetry()
	c.unusedRevocation()
	c.unused()
	c.addresses(t.Listeners)
	c.meetings(t)
	if len(c.graph.names) > 0 && !runs {
		c.report.problem(c.graph.bindings[c.graph.names[0]].at,
			"there is nothing to run: no binding is a tcp server or a kafka-grpc remote_server")
	}
	return t
}

// binding checks what concerns one binding alone, whether a way leads to it or not.
func (c *compiler) binding(b *binding) {
	switch spec := b.spec.(type) {
	case *tlsServer:
		either(c, b, spec.Routes)
		c.serverTLS(b, spec)
		c.certificateGuards(spec)
		c.gates(b)
	case *tlsClient:
		c.clientTLS(b, spec)
	case *httpServer:
		c.httpVersions(b, spec.Options.Versions, c.browsers(b, spec) != nil)
		c.tokenSources(spec)
		c.gates(b)
		c.httpHeaders(spec)
		either(c, b, spec.Routes)
	case *httpClient:
		c.httpVersions(b, spec.Options.Versions, false)
		c.httpOverrides(spec)
	case *grpcServer:
		c.server(spec)
		c.catalogRefs(spec.Catalog)
		c.knownMethods(spec.Routes)
		for _, r := range spec.Routes {
			c.demands(r.Guarded)
		}
	case *grpcClient:
		c.pace(spec)
		c.catalogRefs(spec.Catalog)
		c.knownMethods(spec.Routes)
		for _, r := range spec.Routes {
			c.demands(r.Guarded)
		}
	case *grpcKafka:
		contract := c.contract(&spec.Options.contract)
		for i := range spec.Routes {
			r := &spec.Routes[i]
			c.demands(r.Guarded)
			r.With.Key.depends(c)
			c.overrides(r.With.Overrides, contract)
			c.fetchOf(b, r)
			c.knownMethods([]route[methodWhen]{r.route})
		}
	case *kafkaGRPC:
		for _, r := range spec.Routes {
			for _, w := range r.When {
				c.knownMethod(w.Method)
			}
		}
	case *kafkaCache:
		c.cacheTopicsOf(b)
		if b.kind == "kafka cache_server" {
			c.report.warn(b.at, "%s caches nothing: topics are read and written directly", b.place)
		}
	case *kafkaClient:
		c.cacheTopicsOf(b)
		c.cluster(b, spec)
	}
}

// httpVersions checks what is spoken: HTTP/1.1 with browsers alone.
func (c *compiler) httpVersions(b *binding, versions []text, browsers bool) {
	h2 := len(versions) == 0
	for _, v := range versions {
		h2 = h2 || !v.ok || v.value == "h2"
	}
	if !h2 {
		c.report.problem(versions[0].position, "%s must name h2: gRPC needs HTTP/2", place{b.place.owner, "options.versions"})
		return
	}
	for _, v := range versions {
		if v.ok && v.value != "h2" && !browsers {
			c.report.warn(v.position, "%s has no effect: only h2 is spoken; http/1.1 is for browsers, which an http server takes with `options.access-control`", v.place)
		}
	}
}

func (c *compiler) knownMethods(routes []route[methodWhen]) {
	for _, r := range routes {
		for _, w := range r.When {
			c.knownMethod(w.Method)
		}
	}
}

// knownMethod warns of a pattern that takes no method of the catalogs. It may still be right: a binding passes
// methods on without knowing them.
func (c *compiler) knownMethod(m methodPattern) {
	if !m.ok || m.value == "*" || len(c.methods) == 0 || c.unread {
		return
	}
	var known []string
	for name := range c.methods {
		if MethodPattern(m.value).Matches(name) {
			return
		}
		if service, all := strings.CutSuffix(m.value, "/*"); all && service != "" {
			name = name[:strings.LastIndex(name, "/")] + "/*"
		}
		known = append(known, name)
	}
	slices.Sort(known)
	near := nearest(m.value, slices.Compact(known))
	if near != "" {
		near = "; did you mean `" + near + "`?"
	}
	c.report.warn(m.position, "%s: no method of the catalogs is `%s`%s", m.place, m.raw, near)
}

// path resolves a path of the file.
func (c *compiler) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}
