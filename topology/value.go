package topology

import (
	"cmp"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafkagrpc/wire"

	"github.com/goccy/go-yaml/ast"
	"google.golang.org/grpc/codes"
)

// duration is a positive Go duration.
type duration struct {
	text
	value time.Duration
}

func (d *duration) parse(value string) string {
	v, err := time.ParseDuration(value)
	if err != nil || v <= 0 {
		return "must be a positive duration with a unit, such as 500ms, 30s or 24h"
	}
	d.value = v
	return ""
}

func (d duration) or(fallback time.Duration) time.Duration {
	if !d.ok {
		return fallback
	}
	return d.value
}

// pause is a duration that may be 0.
type pause struct {
	text
	value time.Duration
}

func (p *pause) parse(value string) string {
	v, err := time.ParseDuration(value)
	if err != nil || v < 0 {
		return "must be 0 or a duration with a unit, such as 500ms or 5s"
	}
	p.value = v
	return ""
}

// bound is a duration, or none.
type bound struct{ duration }

func (b *bound) parse(value string) string {
	if value == "none" {
		b.value = 0
		return ""
	}
	if b.duration.parse(value) != "" {
		return "must be a positive duration with a unit, such as 500ms, 30s or 24h, or none"
	}
	return ""
}

// size is a positive number of bytes, at most 1 GiB.
type size struct {
	text
	value int
}

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {"", 1}}

func (s *size) parse(value string) string {
	for _, unit := range units {
		number, found := strings.CutSuffix(value, unit.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n <= 0 || n > math.MaxInt64/unit.bytes || n*unit.bytes > 1<<30 {
			break
		}
		s.value = int(n * unit.bytes)
		return ""
	}
	return "must be a number of bytes from 1 to 1GiB, such as 4096, 900KiB or 1MiB"
}

func (s size) or(fallback int) int {
	if !s.ok {
		return fallback
	}
	return s.value
}

// count is a whole number from 1 to 1,000,000.
type count struct {
	text
	value int
}

func (c *count) parse(value string) string {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 1_000_000 {
		return "must be a whole number from 1 to 1000000"
	}
	c.value = n
	return ""
}

func (c count) or(fallback int) int {
	if !c.ok {
		return fallback
	}
	return c.value
}

// toggle is true or false.
type toggle struct {
	text
	value bool
}

func (t *toggle) parse(value string) string {
	if value != "true" && value != "false" {
		return "must be true or false"
	}
	t.value = value == "true"
	return ""
}

// code is a gRPC status code by name; case and the choice of - or _ do not matter.
type code struct {
	text
	value codes.Code
}

func (c *code) parse(value string) string {
	v, ok := wire.StatusOf(value)
	switch {
	case !ok:
		var names []string
		for _, name := range wire.StatusNames[1:] {
			names = append(names, hyphened(name))
		}
		slices.Sort(names)
		return "must be the name of a gRPC status code such as `" + cmp.Or(nearest(hyphened(value), names), "unavailable") + "`"
	case v == codes.OK:
		return "must be the code of an error: a call that went well is never made again"
	}
	c.value = v
	return ""
}

// hyphened is the name of a status as a configuration writes it.
func hyphened(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// topicName is a name that Kafka takes for a topic.
type topicName struct{ text }

var legalName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func legalTopic(name string) bool { return legalName.MatchString(name) && name != "." && name != ".." }

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

func (m *methodPattern) parse(value string) string {
	if !legalMethod.MatchString(value) {
		return "must be package.Service/Method, package.Service/* or *"
	}
	return ""
}

// headerName is the name of a Kafka record header that the contract lets people choose.
type headerName struct{ text }

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

// fixed is text that is the same for every call.
type fixed struct{ text }

func (f *fixed) parse(value string) string {
	switch {
	case value == "":
		return "must not be empty"
	case strings.Contains(value, "${"):
		return "must be the same for every call: only ${{env.NAME}} is known"
	}
	return ""
}

// metadataName is the name of gRPC metadata that may become a record header.
type metadataName struct{ text }

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
