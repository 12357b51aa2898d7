package wire

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc/metadata"
)

// statusDetails is the one reserved name that may travel as a trailer: it carries rich errors.
const statusDetails = "grpc-status-details-bin"

// Field is one metadata entry. The value of a name that ends in "-bin" is raw bytes. Every other one is what HTTP/2 carries
// unchanged: bytes of any kind but control characters. gRPC promises less, printable ASCII, but its peers send more.
type Field struct{ Name, Value string }

// Metadata is the metadata of a call or of its answer. Its order counts and names may repeat.
type Metadata []Field

// FromMD takes over the metadata of grpc-go. That is a map, so names come sorted; the values of one name keep
// their order.
func FromMD(md metadata.MD) Metadata {
	if len(md) == 0 {
		return nil
	}
	m := make(Metadata, 0, len(md))
	for _, name := range slices.Sorted(maps.Keys(md)) {
		for _, value := range md[name] {
			m = append(m, Field{strings.ToLower(name), value})
		}
	}
	return m
}

// MD is the metadata as grpc-go takes it; nil when there is none.
func (m Metadata) MD() metadata.MD {
	if len(m) == 0 {
		return nil
	}
	md := make(metadata.MD, len(m))
	for _, f := range m {
		name := strings.ToLower(f.Name)
		md[name] = append(md[name], f.Value)
	}
	return md
}

// Get is the first value of a name, whatever the case of its letters.
func (m Metadata) Get(name string) (string, bool) {
	for _, f := range m {
		if strings.EqualFold(f.Name, name) {
			return f.Value, true
		}
	}
	return "", false
}

// Within leaves out the largest entries until the rest takes at most so many bytes, as size counts them.
func (m Metadata) Within(bytes int, size func(Field) int) (rest Metadata, left int) {
	total := 0
	for _, f := range m {
		total += size(f)
	}
	if total <= bytes {
		return m, 0
	}
	largest := make([]int, len(m)) // first
	for i := range m {
		largest[i] = i
	}
	slices.SortStableFunc(largest, func(a, b int) int { return size(m[b]) - size(m[a]) })
	for ; total > bytes && left < len(m); left++ {
		total -= size(m[largest[left]])
	}
	for i, f := range m {
		if !slices.Contains(largest[:left], i) {
			rest = append(rest, f)
		}
	}
	return rest, left
}

// passes reports whether metadata of this lower-case name may be written to Kafka, or taken from there.
// Reserved names belong to one HTTP/2 hop; credentials pass only where the configuration names them, because
// Kafka stores what it is given.
func (c Contract) passes(name string) bool {
	switch name {
	case "", "content-type", "te", "user-agent", "service-name":
		return false
	case "content-length", "connection", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		// They are true of one message on one connection. On the next one HTTP/2 calls the whole message malformed.
		return false
	case "authorization", "cookie":
		return slices.ContainsFunc(c.AllowMetadata, func(allowed string) bool { return strings.EqualFold(allowed, name) })
	}
	return name[0] != ':' && !strings.HasPrefix(name, "grpc-")
}

func (c Contract) passesTrailer(name string) bool { return name == statusDetails || c.passes(name) }

// LeftOut counts the metadata entries of a record that are left out, because HTTP/2 cannot carry them.
type LeftOut struct {
	Count int
	First string // what is wrong with the first one. It has the name of the header, never the value
}

// add counts an entry of a header.
func (l *LeftOut) add(header, problem string) {
	if l.Count++; l.Count == 1 {
		l.First = fmt.Sprintf("header %.100q: %s", header, problem)
	}
}

// appendMetadata adds one header for each field that passes, and that a reader will take.
func appendMetadata(headers []Header, prefix string, m Metadata, passes func(string) bool) []Header {
	for _, f := range m {
		name := strings.ToLower(f.Name)
		if !passes(name) || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		var value []byte
		if !isBinary(name) {
			if !httpguts.ValidHeaderFieldValue(f.Value) {
				continue
			}
			value = []byte(f.Value)
		} else {
			value = make([]byte, base64.RawStdEncoding.EncodedLen(len(f.Value)))
			base64.RawStdEncoding.Encode(value, []byte(f.Value))
		}
		headers = append(headers, Header{prefix + name, value})
	}
	return headers
}

// appendField reads a header written by appendMetadata, or by another producer. What HTTP/2 cannot carry is left out: a peer
// would refuse the whole call for it.
func appendField(m Metadata, left *LeftOut, prefix string, h Header, passes func(string) bool) Metadata {
	name := strings.ToLower(h.Name[len(prefix):])
	if !passes(name) {
		return m
	}
	if !httpguts.ValidHeaderFieldName(name) {
		left.add(h.Name, "HTTP/2 has no such name")
		return m
	}
	if !isBinary(name) {
		value := string(h.Value)
		if !httpguts.ValidHeaderFieldValue(value) {
			left.add(h.Name, "the value has control characters; metadata with such bytes needs a name that ends in -bin")
			return m
		}
		return append(m, Field{name, value})
	}
	// A gRPC library may join repeated binary values with commas, which are no base64.
	for part := range strings.SplitSeq(string(h.Value), ",") {
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(part, "="))
		if err != nil {
			left.add(h.Name, "the value is not base64: "+err.Error())
			continue
		}
		m = append(m, Field{name, string(value)})
	}
	return m
}

func isBinary(name string) bool { return strings.HasSuffix(name, "-bin") }
