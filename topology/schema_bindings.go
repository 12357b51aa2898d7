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
	Type text `yaml:"type"`
	Kind text `yaml:"kind"`
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
	Metrics []text `yaml:"telemetry.metrics"`
}

func (r *recording) selected() []text { return r.Metrics }

// route is what routes have in common. W is what their `when` may hold.
type route[W any] struct {
	spot
	Exit    text     `yaml:"exit"`
	When    []W      `yaml:"when"`
	Guarded anything `yaml:"guarded" instead:"callers are not authorized yet, so what it guards would be open to all; keep others out by other means before you remove it"`
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

// always is the route of bindings that cannot choose by a condition here.
type always struct {
	spot
	Exit    text     `yaml:"exit"`
	When    anything `yaml:"when" later:"*"`
	Guarded anything `yaml:"guarded" instead:"callers are not authorized yet, so what it guards would be open to all; keep others out by other means before you remove it"`
}

func (r *always) leap() leap { return leap{r.spot, r.Exit} }

type tcpServer struct {
	common
	Options struct {
		Host      host     `yaml:"host"`
		Port      ports    `yaml:"port" need:"true"`
		Backlog   anything `yaml:"backlog" idle:"the default of the system is used"`
		NoDelay   anything `yaml:"nodelay" idle:"it is always on"`
		KeepAlive anything `yaml:"keepalive" idle:"it is always on"`
	} `yaml:"options"`
	Routes []route[portWhen] `yaml:"routes"`
	Exit   text              `yaml:"exit"`
}

type portWhen struct {
	Port      ports    `yaml:"port" need:"true"`
	CIDR      anything `yaml:"cidr" later:"*"`
	Authority anything `yaml:"authority" later:"*"`
}

func (s *tcpServer) leaps() (text, []leap) { return s.Exit, leapsOf(s.Routes) }

type tcpClient struct {
	common
	Options struct {
		Host      serviceHost `yaml:"host"`
		Port      ports       `yaml:"port"`
		NoDelay   anything    `yaml:"nodelay" idle:"it is always on"`
		KeepAlive anything    `yaml:"keepalive" idle:"it is always on"`
	} `yaml:"options"`
	Routes anything `yaml:"routes" later:"*"`
}

type tlsServer struct {
	common
	Vault   text `yaml:"vault" need:"true"`
	Options struct {
		Version      anything `yaml:"version" idle:"TLS 1.2 and 1.3 are offered"`
		Keys         []text   `yaml:"keys" need:"true"`
		SNI          []text   `yaml:"sni"`
		ALPN         []text   `yaml:"alpn"`
		Trust        []text   `yaml:"trust"`
		TrustCACerts text     `yaml:"trustcacerts" oneof:"true false"`
		Signers      anything `yaml:"signers" later:"*"`
		Mutual       text     `yaml:"mutual" oneof:"required requested none"`
	} `yaml:"options"`
	Routes []always `yaml:"routes"`
	Exit   text     `yaml:"exit"`
}

func (s *tlsServer) leaps() (text, []leap) { return s.Exit, leapsOf(s.Routes) }

type tlsClient struct {
	common
	Vault   text `yaml:"vault"`
	Options struct {
		outward
		ALPN []text `yaml:"alpn"`
	} `yaml:"options"`
	Routes []always `yaml:"routes"`
	Exit   text     `yaml:"exit"`
}

// outward is what a connection to somewhere shows, and whom it trusts.
type outward struct {
	Version      anything `yaml:"version" idle:"TLS 1.2 and 1.3 are offered"`
	Keys         []text   `yaml:"keys"`
	SNI          []text   `yaml:"sni"`
	Trust        []text   `yaml:"trust"`
	TrustCACerts text     `yaml:"trustcacerts" oneof:"true false"`
	Signers      anything `yaml:"signers" later:"*"`
	Mutual       anything `yaml:"mutual" idle:"the server decides whether it asks for a certificate"`
}

func (c *tlsClient) leaps() (text, []leap) { return c.Exit, leapsOf(c.Routes) }

type httpServer struct {
	common
	Options struct {
		Versions      []text        `yaml:"versions" oneof:"h2 http/1.1"`
		AccessControl accessControl `yaml:"access-control" idle:"gRPC clients are no browsers"`
		Authorization anything      `yaml:"authorization" instead:"callers are not authorized yet, so what it guards would be open to all; keep others out by other means before you remove it"`
		Overrides     anything      `yaml:"overrides" later:"*"`
	} `yaml:"options"`
	Routes []always `yaml:"routes"`
	Exit   text     `yaml:"exit"`
}

type accessControl struct {
	Policy      text     `yaml:"policy" oneof:"same-origin cross-origin"`
	Origins     anything `yaml:"allow.origins"`
	Methods     anything `yaml:"allow.methods"`
	Headers     anything `yaml:"allow.headers"`
	Credentials anything `yaml:"allow.credentials"`
	MaxAge      anything `yaml:"max-age"`
	Expose      anything `yaml:"expose.headers"`
}

func (s *httpServer) leaps() (text, []leap) { return s.Exit, leapsOf(s.Routes) }

type httpClient struct {
	common
	Options struct {
		Versions  []text   `yaml:"versions" oneof:"h2 http/1.1"`
		Overrides anything `yaml:"overrides" later:"*"`
	} `yaml:"options"`
	Routes []always `yaml:"routes"`
	Exit   text     `yaml:"exit"`
}

func (c *httpClient) leaps() (text, []leap) { return c.Exit, leapsOf(c.Routes) }

// subjectRef names a subject of a catalog.
type subjectRef struct {
	Subject  text     `yaml:"subject" need:"true"`
	Version  text     `yaml:"version"`
	ID       anything `yaml:"id" later:"*"`
	Strategy anything `yaml:"strategy" later:"*"`
}

type methodWhen struct {
	Method   methodPattern `yaml:"method"`
	Metadata anything      `yaml:"metadata" later:"*"`
}

type grpcServer struct {
	recording
	Catalog named[[]subjectRef] `yaml:"catalog"`
	Options struct {
		Services []text `yaml:"services"` // paths of protos, as in Zilla 1.x
		Server
	} `yaml:"options"`
	Routes []route[methodWhen] `yaml:"routes"`
	Exit   text                `yaml:"exit"`
}

func (s *grpcServer) leaps() (text, []leap) { return s.Exit, leapsOf(s.Routes) }

type grpcClient struct {
	recording
	Catalog named[[]subjectRef] `yaml:"catalog"`
	Options struct {
		Services []text `yaml:"services"` // paths of protos, as in Zilla 1.x
		Target
	} `yaml:"options"`
	Routes []route[methodWhen] `yaml:"routes"`
	Exit   text                `yaml:"exit"`
}

func (c *grpcClient) leaps() (text, []leap) { return c.Exit, leapsOf(c.Routes) }

// contract are the options that change names of the record contract.
type contract struct {
	Idempotency   metadataName   `yaml:"idempotency.metadata"`
	Service       headerName     `yaml:"correlation.headers.service"`
	Method        headerName     `yaml:"correlation.headers.method"`
	ReplyTo       headerName     `yaml:"correlation.headers.reply-to"`
	CorrelationID headerName     `yaml:"correlation.headers.correlation-id"`
	AllowMetadata []metadataName `yaml:"metadata.allow"`
}

type grpcKafka struct {
	common
	Options struct {
		contract
		Reliability anything `yaml:"reliability" later:"*"`
	} `yaml:"options"`
	Routes []grpcKafkaRoute `yaml:"routes" need:"true"`
	Exit   text             `yaml:"exit"`
}

type grpcKafkaRoute struct {
	route[methodWhen]
	With struct {
		Capability text         `yaml:"capability" need:"true" oneof:"produce" later:"fetch"`
		Topic      topicName    `yaml:"topic" need:"true"`
		ReplyTo    topicName    `yaml:"reply-to"`
		Acks       text         `yaml:"acks" oneof:"none leader_only in_sync_replicas"`
		Key        fixed        `yaml:"key"`
		Overrides  named[fixed] `yaml:"overrides"`
		Filters    anything     `yaml:"filters" later:"*"`
	} `yaml:"with"`
}

func (g *grpcKafka) leaps() (text, []leap) { return g.Exit, leapsOf(g.Routes) }

// kafkaCache is a cache_client or a cache_server: a step on the way to the kafka client, since nothing is cached.
type kafkaCache struct {
	common
	Options struct {
		Merged    anything `yaml:"merged" idle:"nothing is cached"`
		Bootstrap anything `yaml:"bootstrap" idle:"nothing is cached"`
		Topics    anything `yaml:"topics" idle:"nothing is cached"`
	} `yaml:"options"`
	Routes []route[topicWhen] `yaml:"routes"`
	Exit   text               `yaml:"exit"`
}

type topicWhen struct {
	Topic   text     `yaml:"topic" need:"true"`
	GroupID anything `yaml:"groupId" later:"*"`
}

func (k *kafkaCache) leaps() (text, []leap) { return k.Exit, leapsOf(k.Routes) }

type kafkaClient struct {
	common
	Options struct {
		Servers       []text                    `yaml:"servers"`
		SASL          sasl                      `yaml:"sasl"`
		Authorization named[kafkaAuthorization] `yaml:"authorization"` // by guard
		Rack          text                      `yaml:"client-rack"`
		Merged        anything                  `yaml:"merged" idle:"nothing is cached"`
		Topics        anything                  `yaml:"topics" idle:"nothing is cached"`
	} `yaml:"options"`
	Routes []always `yaml:"routes"`
	Exit   text     `yaml:"exit"`
}

// sasl is how a client names itself to the brokers; it may be missing.
type sasl struct {
	given  bool
	values saslValues
}

type saslValues struct {
	spot
	Mechanism text `yaml:"mechanism" need:"true" oneof:"plain scram-sha-256 scram-sha-512" later:"scram-sha-1 gssapi oauthbearer"`
	Username  text `yaml:"username" need:"true"`
	Password  text `yaml:"password" need:"true"`
}

func (s *sasl) decode(d *decoder, n ast.Node, at position, p place) {
	s.given = true
	d.value(n, at, valueOf(&s.values), p, "")
}

// kafkaAuthorization is the same as sasl, with what a guard knows.
type kafkaAuthorization struct {
	Credentials struct {
		saslValues
		Token anything `yaml:"token" later:"*"`
	} `yaml:"credentials"`
}

func (k *kafkaClient) leaps() (text, []leap) { return k.Exit, leapsOf(k.Routes) }

type kafkaGRPC struct {
	common
	Entry   text `yaml:"entry" need:"true"`
	Options struct {
		contract
		Acks text `yaml:"acks" oneof:"none leader_only in_sync_replicas"`
		Remote
	} `yaml:"options"`
	Routes []kafkaGRPCRoute `yaml:"routes" need:"true"`
	Exit   text             `yaml:"exit"`
}

type kafkaGRPCRoute struct {
	route[kafkaGRPCWhen]
	With struct {
		Scheme    text      `yaml:"scheme" oneof:"http https"`
		Authority authority `yaml:"authority"`
		eventWith
	} `yaml:"with"`
}

type kafkaGRPCWhen struct {
	spot
	Topic   topicName     `yaml:"topic" need:"true"`
	ReplyTo topicName     `yaml:"reply-to"` // a route of requests needs it
	Method  methodPattern `yaml:"method"`
	Key     text          `yaml:"key"`
	Headers named[text]   `yaml:"headers"`
}

func (k *kafkaGRPC) leaps() (text, []leap) { return k.Exit, leapsOf(k.Routes) }
