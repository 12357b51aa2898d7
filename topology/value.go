package topology

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// topicName is a name that Kafka takes for a topic.
type topicName struct{ text }

var legalName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func legalTopic(name string) bool { return legalName.MatchString(name) && name != "." && name != ".." }

func (*topicName) regexp() string { return legalName.String() }

func (t *topicName) parse(value string) string {
	if !legalTopic(value) {
		return "must be a legal Kafka topic name (1 to 249 of a-z A-Z 0-9 . _ -)"
	}
	return ""
}

// methodPattern is a MethodPattern of the file.
type methodPattern struct{ text }

var (
	legalMethod = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.]*/([A-Za-z_][A-Za-z0-9_]*|\*)|\*)$`)
	legalHeader = regexp.MustCompile(`^[\x21-\x7e]{1,249}$`)
	legalMeta   = regexp.MustCompile(`^[a-z0-9_.-]{1,249}$`)
)

func (*methodPattern) regexp() string { return legalMethod.String() }

func (m *methodPattern) parse(value string) string {
	if !legalMethod.MatchString(value) {
		return "must be package.Service/Method, package.Service/* or *"
	}
	return ""
}

// headerName is the name of a Kafka record header that the contract lets people choose.
type headerName struct{ text }

func (*headerName) regexp() string { return legalHeader.String() }

func (h *headerName) parse(value string) string {
	switch {
	case !legalHeader.MatchString(value):
		return "must be a header name of printable characters without spaces"
	case slices.Contains([]string{"zilla:status", "zilla:message", "traceparent", "tracestate"}, value),
		strings.HasPrefix(value, "meta:"), strings.HasPrefix(value, "trailer:"), strings.HasPrefix(value, "grpc:"):
		return "must be another header name: this one has a fixed meaning in the records"
	}
	return ""
}

// headerValue is the value of an HTTP header.
type headerValue struct{ text }

func (*headerValue) secret() {}

func (*headerValue) regexp() string { return `^[!-~]([ -~]*[!-~])?$` }

func (h *headerValue) parse(value string) string {
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(value) != value {
		return "must be the value of a header, of printable characters"
	}
	return ""
}

// metadataName is the name of gRPC metadata that may become a record header.
type metadataName struct{ text }

func (*metadataName) regexp() string { return `^[a-zA-Z0-9_.-]{1,249}$` }

func (m *metadataName) parse(value string) string {
	name := strings.ToLower(value)
	switch {
	case !legalMeta.MatchString(name):
		return "must be a metadata name (a-z 0-9 . _ -)"
	case strings.HasPrefix(name, "grpc-"), slices.Contains([]string{"content-type", "te", "user-agent", "service-name"}, name):
		return "must be another metadata name: this one belongs to the transport and is never passed on"
	}
	m.text.value = name
	return ""
}

// host is a host name or an IP address; an IPv6 address may stand in brackets.
type host struct{ text }

// regexp takes any name, and what has the colons of an IPv6 address.
func (*host) regexp() string {
	return `^([^\s/@:\[\]"'\x60]+|\[?[0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*(%[^\s\]]+)?\]?)$`
}

func (h *host) parse(value string) string {
	bare := value
	if strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") {
		bare = value[1 : len(value)-1]
	}
	if wrongHost(bare) {
		return "must be a host name or an IP address without a port"
	}
	h.text.value = bare
	return ""
}

// authority is what calls carry as :authority, a host or host:port.
type authority struct{ text }

func (*authority) regexp() string { return `^[^\s/@\\"]+$` }

func (a *authority) parse(value string) string {
	if value == "" || strings.ContainsAny(value, " \t\r\n/@\\\"") {
		return "must be a host or host:port"
	}
	return ""
}

// wrongHost reports whether a host without brackets cannot be one.
func wrongHost(bare string) bool {
	if strings.Contains(bare, ":") {
		_, err := netip.ParseAddr(bare)
		return err != nil
	}
	return bare == "" || len(bare) > 253 || strings.ContainsAny(bare, " \t\r\n/@[]\"'`")
}

// ports is one port, a range "7151-7153", or a list of both.
type ports []portRange

type portRange struct {
	text
	low, high int
}

func (*portRange) regexp() string { return `^\s*[0-9]{1,5}\s*(-\s*[0-9]{1,5}\s*)?$` }

func (p *portRange) parse(value string) string {
	low, high, isRange := strings.Cut(value, "-")
	if !isRange {
		high = low
	}
	var err1, err2 error
	p.low, err1 = strconv.Atoi(strings.TrimSpace(low))
	p.high, err2 = strconv.Atoi(strings.TrimSpace(high))
	if err1 != nil || err2 != nil || p.low < 1 || p.high > 65535 || p.low > p.high {
		return "must be a port from 1 to 65535, or a range such as 7151-7153"
	}
	return ""
}

func (ps *ports) decode(d *decoder, n ast.Node, _ position, p place) {
	values, index := []ast.Node{n}, false
	if sequence, ok := n.(*ast.SequenceNode); ok {
		values, index = sequence.Values, true
	}
	for i, v := range values {
		inner := p
		if index {
			inner = p.index(i)
		}
		var r portRange
		d.scalar(v, &r, inner, "")
		*ps = append(*ps, r)
	}
}

func (ps ports) contain(port int) bool {
	return slices.ContainsFunc(ps, func(r portRange) bool { return r.ok && r.low <= port && port <= r.high })
}
