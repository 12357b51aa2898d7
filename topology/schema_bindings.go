package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// binding is one node of the graph. spec is nil where its type or kind is unusable, which is reported already.
type binding struct {
	spot
	name string
	kind string // "tcp server"
	spec any
}

// specs are the binding types and kinds, by both. A nil one is known, but not supported yet.
func specs() map[string]map[string]any {
	return map[string]map[string]any{
		"tcp":        {"server": &tcpServer{}, "client": &tcpClient{}},
		"tls":        {"server": &tlsServer{}, "client": &tlsClient{}},
		"echo":       {"server": &echoServer{}},
		"http":       {"server": &httpServer{}, "client": &httpClient{}},
		"grpc":       {"server": &grpcServer{}, "client": &grpcClient{}},
		"grpc-kafka": {"proxy": &grpcKafka{}},
		"kafka":      {"cache_client": &kafkaCache{}, "cache_server": &kafkaCache{}, "client": &kafkaClient{}},
		"kafka-grpc": {"remote_server": &kafkaGRPC{}},
	}
}

func (b *binding) decode(d *decoder, n ast.Node, at position, p place) {
	b.name = strings.TrimPrefix(p.path, "bindings.")
	p = place{owner: fmt.Sprintf("binding `%s`", b.name)}
	b.locate(at, p)
	pairs, ok := d.pairs(n, p)
	if !ok {
		return
	}
	types := specs()
	kind, ok := d.choice(pairs, "type", at, p, slices.Sorted(maps.Keys(types)))
	if !ok {
		return
	}
	kinds := types[kind]
	name, ok := d.choice(pairs, "kind", at, p, slices.Sorted(maps.Keys(kinds)))
	if !ok {
		return
	}
	b.kind = kind + " " + name
	spec := kinds[name]
	if spec == nil {
		d.report.problem(at, "%s: a %s is not supported yet", p, b.kind)
		return
	}
	b.spec = d.fill(spec, pairs, at, p)
}

// kinded are the keys of every binding.
type kinded struct {
	Type text `yaml:"type" doc:"what it is"`
	Kind text `yaml:"kind" doc:"its role"`
}

// common are those of the bindings that record no metrics.
type common struct {
	kinded
	Metrics []text `yaml:"telemetry.metrics" idle:"calls are measured, not what they go through; let the grpc bindings record grpc.*"`
}

func (c *common) selected() []text { return c.Metrics }

// recording are those of the bindings that record metrics.
type recording struct {
	kinded
	Metrics []text `yaml:"telemetry.metrics" doc:"the metrics that calls of this binding are recorded under; * is any text"`
}

func (r *recording) selected() []text { return r.Metrics }

// route is what routes have in common. W is what their `when` may hold.
type route[W any] struct {
	spot
	Exit    text          `yaml:"exit" doc:"the binding that follows; without it, the exit of the binding"`
	When    []W           `yaml:"when" doc:"the route is for what matches one of these; without it, for everything"`
	Guarded named[[]text] `yaml:"guarded" doc:"the guards that must know the caller, by name, each with the roles that the caller must have"`
}

// leap is a way from one binding to the next. exit is not given where the default of the binding is meant.
type leap struct {
	spot
	exit text
}

func (r *route[W]) leap() leap { return leap{r.spot, r.Exit} }

// leaping bindings have followers: one for each route, and a default.
type leaping interface {
	leaps() (fallback text, routes []leap)
}

func leapsOf[R any, P interface {
	*R
	leap() leap
}](routes []R) []leap {
	var all []leap
	for i := range routes {
		all = append(all, P(&routes[i]).leap())
	}
	return all
}

// behind is the same behind Kafka, where nobody knows a caller.
type behind[W any] struct {
	spot
	Exit    text     `yaml:"exit" doc:"the binding that follows; without it, the exit of the binding"`
	When    []W      `yaml:"when" doc:"the route is for what matches one of these; without it, for everything"`
	Guarded anything `yaml:"guarded" instead:"records do not tell who calls, so what it guards would be open to all; guard the routes on the way to the topic"`
}

func (r *behind[W]) leap() leap { return leap{r.spot, r.Exit} }

// gated is the route of a server whose conditions keep some out, and part nobody.
type gated[W any] struct {
	always
	When []W `yaml:"when" doc:"the route is for what matches one of these; without it, for everything"`
}

// always is the same without conditions.
type always struct {
	spot
	Exit    text          `yaml:"exit" doc:"the binding that follows; without it, the exit of the binding"`
	Guarded named[[]text] `yaml:"guarded" doc:"the guards that must know the caller of every call behind it, by name, each with the roles that the caller must have"`
}

func (r *always) leap() leap { return leap{r.spot, r.Exit} }

// onward is the route of a client, of which there is one.
type onward struct {
	spot
	Exit    text     `yaml:"exit" doc:"the binding that follows; without it, the exit of the binding"`
	When    anything `yaml:"when" instead:"connections are not told apart here, so a route for some would be open to all; tell calls apart by method and metadata at a grpc binding, clients by port and cidr at a tcp server and by authority at a tls server"`
	Guarded anything `yaml:"guarded" instead:"callers are not known here, so what it guards would be open to all; guard the routes of the servers and of grpc-kafka"`
}

func (r *onward) leap() leap { return leap{r.spot, r.Exit} }

type tcpServer struct {
	common
	Options struct {
		Host      host     `yaml:"host" doc:"the address to listen on; without it, all"`
		Port      ports    `yaml:"port" need:"true" doc:"ports to listen on: a number, a range such as 7151-7153, or a list"`
		Backlog   anything `yaml:"backlog" idle:"the default of the system is used"`
		NoDelay   anything `yaml:"nodelay" idle:"it is always on"`
		KeepAlive anything `yaml:"keepalive" idle:"it is always on"`
	} `yaml:"options"`
	Routes []route[portWhen] `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text              `yaml:"exit" doc:"the binding that follows where no route matches"`
}

type portWhen struct {
	Port      ports    `yaml:"port" doc:"ports of the server; without it, all"`
	CIDR      cidr     `yaml:"cidr" doc:"addresses of clients, such as 10.0.0.0/8; without it, all"`
	Authority anything `yaml:"authority" instead:"a TCP connection names nobody whom it is for, so a route for some would be open to all; tell clients apart by their addresses with cidr, or by the name that they ask for with authority at a tls server"`
}

func (s *tcpServer) leaps() (text, []leap) { return s.Exit, leapsOf(s.Routes) }

type tcpClient struct {
	common
	Options struct {
		Host      serviceHost `yaml:"host" doc:"host of the service, or unix:/path of its socket"`
		Port      ports       `yaml:"port" doc:"port of the service"`
		NoDelay   anything    `yaml:"nodelay" idle:"it is always on"`
		KeepAlive anything    `yaml:"keepalive" idle:"it is always on"`
	} `yaml:"options"`
	Routes anything `yaml:"routes" later:"*"`
}

type tlsServer struct {
	common
	Vault   text `yaml:"vault" need:"true" doc:"where the keys and the trusted certificates are"`
	Options struct {
		Version       anything                `yaml:"version" idle:"TLS 1.2 and 1.3 are offered"`
		Keys          []text                  `yaml:"keys" need:"true" doc:"aliases of the keys; the one that matches the name the client asks for is shown"`
		SNI           []text                  `yaml:"sni" doc:"names that clients may ask for; without it, any"`
		ALPN          []text                  `yaml:"alpn" doc:"protocols; h2 must be one"`
		Trust         []text                  `yaml:"trust" doc:"aliases of the authorities of clients"`
		TrustCACerts  text                    `yaml:"trustcacerts" oneof:"true false" doc:"whether the authorities of the system count, too"`
		Signers       anything                `yaml:"signers" later:"*"`
		Mutual        text                    `yaml:"mutual" oneof:"required requested none" doc:"whether clients must show a certificate; with trust, required"`
		Authorization named[tlsAuthorization] `yaml:"authorization" doc:"the guards that know clients by their certificates, by the guard's name"`
	} `yaml:"options"`
	Routes []tlsRoute `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text       `yaml:"exit" doc:"the binding that follows where no route matches"`
}

type tlsRoute struct {
	gated[tlsWhen]
	With anything `yaml:"with" instead:"certificates are chosen by the names of options.keys"`
}

type tlsWhen struct {
	Authority host     `yaml:"authority" doc:"the name that clients ask for (SNI); without it, any"`
	ALPN      text     `yaml:"alpn" oneof:"h2" doc:"the protocol, which is that of gRPC"`
	Port      ports    `yaml:"port" doc:"ports of the tcp server; without it, all"`
	Mutual    anything `yaml:"mutual" instead:"clients are not told apart by whether they show a certificate, so a route for some would be open to all; say what all must show in options.mutual"`
	Trust     anything `yaml:"trust" instead:"clients are not told apart by who signed their certificate, so a route for some would be open to all; name whom all must be signed by in options.trust"`
}

func (s *tlsServer) leaps() (text, []leap) { return s.Exit, leapsOf(s.Routes) }

type tlsClient struct {
	common
	Vault   text `yaml:"vault" doc:"where the keys and the trusted certificates are"`
	Options struct {
		outward
		ALPN []text `yaml:"alpn" doc:"protocols; h2 must be one"`
	} `yaml:"options"`
	Routes []onward `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text     `yaml:"exit" doc:"the binding that follows where no route matches"`
}

// outward is what a connection to somewhere shows, and whom it trusts.
type outward struct {
	Version      anything `yaml:"version" idle:"TLS 1.2 and 1.3 are offered"`
	Keys         []text   `yaml:"keys" doc:"alias of the key that is shown if asked for"`
	SNI          []text   `yaml:"sni" doc:"the name that the certificate must have; without it, the host"`
	Trust        []text   `yaml:"trust" doc:"aliases of the authorities; without it, those of the system"`
	TrustCACerts text     `yaml:"trustcacerts" oneof:"true false" doc:"whether the authorities of the system count, too"`
	Signers      anything `yaml:"signers" later:"*"`
	Mutual       anything `yaml:"mutual" idle:"the server decides whether it asks for a certificate"`
}

func (c *tlsClient) leaps() (text, []leap) { return c.Exit, leapsOf(c.Routes) }

type httpServer struct {
	common
	Options struct {
		Versions      []text                   `yaml:"versions" oneof:"h2 http/1.1" doc:"h2 must be one; http/1.1 is for browsers; without it, both"`
		AccessControl accessControl            `yaml:"access-control" doc:"browsers may call, with gRPC-Web, and those of these pages"`
		Authorization named[httpAuthorization] `yaml:"authorization" doc:"how the guards that know tokens get them, by the guard's name"`
		Overrides     anything                 `yaml:"overrides" instead:"headers are passed on as callers send them; overrides of a grpc-kafka route write headers of records"`
	} `yaml:"options"`
	Routes []httpRoute `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text        `yaml:"exit" doc:"the binding that follows where no route matches"`
}

type httpRoute struct {
	gated[httpWhen]
	With anything `yaml:"with" instead:"headers are passed on as callers send them; overrides of a grpc-kafka route write headers of records"`
}

type httpWhen struct {
	Headers named[text] `yaml:"headers" doc:"headers that a call must have, all of them: :path, :authority, :scheme, :method, or metadata; * is any text"`
}

// accessControl says which pages browsers may call from. It may be missing: browsers may not call then.
type accessControl struct {
	given  bool
	values accessControlValues
}

type accessControlValues struct {
	spot
	Policy      text     `yaml:"policy" need:"true" oneof:"same-origin cross-origin" doc:"pages of the server's own address alone, or of others, too"`
	Origins     []origin `yaml:"allow.origins" doc:"the others, such as https://app.example.com; without it, all"`
	Methods     []text   `yaml:"allow.methods" doc:"methods of HTTP; POST must be one; without it, POST"`
	Headers     []text   `yaml:"allow.headers" doc:"metadata that pages may send; without it, all"`
	Credentials text     `yaml:"allow.credentials" oneof:"true false" doc:"whether browsers may send cookies and certificates, which needs allow.origins"`
	MaxAge      int      `yaml:"max-age" is:"count" doc:"seconds for which browsers need not ask again"`
	Expose      []text   `yaml:"expose.headers" doc:"metadata of answers that pages may see; without it, all"`
}

func (a *accessControl) inner() any { return &a.values }

func (a *accessControl) decode(d *decoder, n ast.Node, at position, p place) {
	a.given = true
	d.value(n, at, valueOf(&a.values), p, "")
}

func (s *httpServer) leaps() (text, []leap) { return s.Exit, leapsOf(s.Routes) }

type httpClient struct {
	common
	Options struct {
		Versions      []text           `yaml:"versions" oneof:"h2 http/1.1" doc:"h2 must be one"`
		Overrides     named[authority] `yaml:"overrides" doc:":authority of the calls, in place of the address of the service"`
		Authorization anything         `yaml:"authorization" instead:"a service is shown the metadata of the caller, and no credentials of the program's own; let callers send theirs, or show a certificate of a tls client"`
	} `yaml:"options"`
	Routes []onward `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text     `yaml:"exit" doc:"the binding that follows where no route matches"`
}

func (c *httpClient) leaps() (text, []leap) { return c.Exit, leapsOf(c.Routes) }

// subjectRef names a subject of a catalog.
type subjectRef struct {
	spot
	Subject  text     `yaml:"subject" doc:"its name in the catalog"`
	Version  text     `yaml:"version" doc:"its version there, or latest"`
	ID       schemaID `yaml:"id" doc:"its id in a schema registry, in place of its name"`
	Strategy anything `yaml:"strategy" instead:"calls have no topic and no record that would make the name of a subject; name the subject"`
}

type methodWhen struct {
	Method   methodPattern        `yaml:"method" doc:"package.Service/Method, package.Service/*, or *"`
	Metadata named[metadataValue] `yaml:"metadata" doc:"metadata that the call must have, all of it, by name"`
}

type grpcServer struct {
	recording
	Catalog named[[]subjectRef] `yaml:"catalog" doc:"subjects with the methods, by catalog"`
	Options struct {
		Services []text `yaml:"services" doc:"paths of protos, relative to the file, as in Zilla 1.x"`
		Server
	} `yaml:"options"`
	Routes []route[methodWhen] `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text                `yaml:"exit" doc:"the binding that follows where no route matches"`
}

func (s *grpcServer) leaps() (text, []leap) { return s.Exit, leapsOf(s.Routes) }

type grpcClient struct {
	recording
	Catalog named[[]subjectRef] `yaml:"catalog" doc:"subjects with the methods, by catalog"`
	Options struct {
		Services []text `yaml:"services" doc:"paths of protos, relative to the file, as in Zilla 1.x"`
		Target
	} `yaml:"options"`
	Routes []route[methodWhen] `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text                `yaml:"exit" doc:"the binding that follows where no route matches"`
}

func (c *grpcClient) leaps() (text, []leap) { return c.Exit, leapsOf(c.Routes) }

// echoServer answers calls with their own messages.
type echoServer struct{ common }

// contract are the options that change names of the record contract.
type contract struct {
	Idempotency   metadataName   `yaml:"idempotency.metadata" doc:"the metadata that holds the idempotency key"`
	Service       headerName     `yaml:"correlation.headers.service" doc:"name of the record header"`
	Method        headerName     `yaml:"correlation.headers.method" doc:"name of the record header"`
	ReplyTo       headerName     `yaml:"correlation.headers.reply-to" doc:"name of the record header"`
	CorrelationID headerName     `yaml:"correlation.headers.correlation-id" doc:"name of the record header"`
	AllowMetadata []metadataName `yaml:"metadata.allow" doc:"authorization and cookie pass only if they are named here"`
}

type grpcKafka struct {
	common
	Options struct {
		contract
		Fetching
	} `yaml:"options"`
	Routes []grpcKafkaRoute `yaml:"routes" need:"true" doc:"where to go, the first that matches"`
	Exit   text             `yaml:"exit" doc:"the binding that follows where no route matches"`
}

type grpcKafkaRoute struct {
	route[methodWhen]
	With struct {
		Capability text             `yaml:"capability" need:"true" oneof:"produce fetch" doc:"what is done with calls: they are written to the topic, or read it"`
		Topic      topicName        `yaml:"topic" need:"true" doc:"topic of the requests, or the one that is read"`
		ReplyTo    topicName        `yaml:"reply-to" doc:"topic of the replies; without it, calls are one-way"`
		Acks       text             `yaml:"acks" oneof:"none leader_only in_sync_replicas" doc:"a minimum: all in-sync replicas acknowledge everything"`
		Key        perCaller        `yaml:"key" doc:"key of the records; without it, the correlation id; may have ${guarded['NAME'].identity} and .attributes.X"`
		Overrides  named[perCaller] `yaml:"overrides" doc:"headers of the records, before all others; with the same expressions"`
		Filters    []filter         `yaml:"filters" doc:"what is read: a record that one of these takes; without it, all"`
	} `yaml:"with" doc:"what becomes of the calls"`
}

// filter takes records of a topic that is read. All that it names must be so.
type filter struct {
	spot
	Key     perCaller        `yaml:"key" doc:"key of the record; may have ${guarded['NAME'].identity} and .attributes.X"`
	Headers named[perCaller] `yaml:"headers" doc:"headers that the record must have; with the same expressions"`
}

func (g *grpcKafka) leaps() (text, []leap) { return g.Exit, leapsOf(g.Routes) }

// kafkaCache is a cache_client or a cache_server: a step on the way to the kafka client, since nothing is cached.
type kafkaCache struct {
	common
	Options struct {
		Merged    anything     `yaml:"merged" idle:"nothing is cached"`
		Bootstrap anything     `yaml:"bootstrap" idle:"nothing is cached"`
		Topics    []cacheTopic `yaml:"topics" doc:"what the records of topics have to be like"`
	} `yaml:"options"`
	Routes []behind[topicWhen] `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text                `yaml:"exit" doc:"the binding that follows where no route matches"`
}

type topicWhen struct {
	Topic   text     `yaml:"topic" need:"true" doc:"a topic; * is any text"`
	GroupID anything `yaml:"groupId" later:"*"`
}

func (k *kafkaCache) leaps() (text, []leap) { return k.Exit, leapsOf(k.Routes) }

type kafkaClient struct {
	common
	Options struct {
		Servers       []text                    `yaml:"servers" doc:"host:port of brokers to begin with"`
		SASL          sasl                      `yaml:"sasl" doc:"who the program is to the brokers"`
		Authorization named[kafkaAuthorization] `yaml:"authorization" doc:"the same with the credentials of a guard, by its name"`
		Rack          text                      `yaml:"client-rack" doc:"as broker.rack of the brokers to read from; without it, the leaders"`
		Merged        anything                  `yaml:"merged" idle:"nothing is cached"`
		Topics        []cacheTopic              `yaml:"topics" doc:"what the records of topics have to be like"`
	} `yaml:"options"`
	Routes []onward `yaml:"routes" doc:"where to go, the first that matches"`
	Exit   text     `yaml:"exit" doc:"the binding that follows where no route matches"`
}

// sasl is how a client names itself to the brokers; it may be missing.
type sasl struct {
	given  bool
	values saslValues
}

type saslValues struct {
	spot
	Mechanism text `yaml:"mechanism" need:"true" oneof:"plain scram-sha-256 scram-sha-512 oauthbearer aws-msk-iam" later:"scram-sha-1 gssapi" doc:"how the client proves who it is: by a password, or by a token"`
	Username  text `yaml:"username" doc:"the name that goes with a password; in authorization, with {identity}"`
	Password  text `yaml:"password" doc:"the password; in authorization, with {credentials}"`
	Token     text `yaml:"token" doc:"the token of oauthbearer, the same for ever; in authorization, with {credentials}"`
	Endpoint  struct {
		URL          text `yaml:"url" doc:"of the endpoint"`
		ClientID     text `yaml:"client-id" doc:"the name of the client; in authorization, with {identity}"`
		ClientSecret text `yaml:"client-secret" doc:"the secret of the client; in authorization, with {credentials}"`
		Scope        text `yaml:"scope" doc:"what is asked for, with spaces between; without it, what the issuer gives"`
		Audience     text `yaml:"audience" doc:"whom the token is for, where the issuer wants to be told"`
	} `yaml:"token-endpoint" doc:"where the tokens of oauthbearer come from, by OAuth 2.0 client credentials; they are renewed in time"`
	Region text `yaml:"region" doc:"of the cluster, for aws-msk-iam; the credentials are those that AWS's programs find"`
}

func (s *sasl) inner() any { return &s.values }

func (s *sasl) decode(d *decoder, n ast.Node, at position, p place) {
	s.given = true
	d.value(n, at, valueOf(&s.values), p, "")
}

// kafkaAuthorization is the same as sasl, with what a guard knows.
type kafkaAuthorization struct {
	Credentials struct {
		saslValues
	} `yaml:"credentials" doc:"how the guard's identity is used"`
}

func (k *kafkaClient) leaps() (text, []leap) { return k.Exit, leapsOf(k.Routes) }

type kafkaGRPC struct {
	common
	Entry   text `yaml:"entry" need:"true" doc:"the kafka cache_client binding that leads to the topics"`
	Options struct {
		contract
		Acks text `yaml:"acks" oneof:"none leader_only in_sync_replicas" doc:"a minimum: all in-sync replicas acknowledge everything"`
		Remote
	} `yaml:"options"`
	Routes []kafkaGRPCRoute `yaml:"routes" need:"true" doc:"where to go, the first that matches"`
	Exit   text             `yaml:"exit" doc:"the binding that follows where no route matches"`
}

type kafkaGRPCRoute struct {
	behind[kafkaGRPCWhen]
	With struct {
		Scheme    text      `yaml:"scheme" oneof:"http https" doc:"https where a tls client follows"`
		Authority authority `yaml:"authority" doc:"the :authority of the calls; without it, the address of the service"`
		eventWith
	} `yaml:"with" doc:"what becomes of the calls"`
}

type kafkaGRPCWhen struct {
	spot
	Topic   topicName     `yaml:"topic" need:"true" doc:"topic of the requests"`
	ReplyTo topicName     `yaml:"reply-to" doc:"topic of the replies"` // a route of requests needs it
	Method  methodPattern `yaml:"method" doc:"package.Service/Method, package.Service/*, or *"`
	Key     text          `yaml:"key" doc:"key of the record"`
	Headers named[text]   `yaml:"headers" doc:"headers that the record must have"`
}

func (k *kafkaGRPC) leaps() (text, []leap) { return k.Exit, leapsOf(k.Routes) }
