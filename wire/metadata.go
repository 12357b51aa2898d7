package wire

import (
	"encoding/base64"
	"fmt"
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
	for name, values := range md {
		for _, value := range values {
			m = append(m, Field{name, value})
		}
	}
	slices.SortStableFunc(m, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	for i := range m {
		m[i].Name = strings.ToLower(m[i].Name)
	}
	return m
}

// MD is the metadata as grpc-go takes it; nil when there is none.
func (m Metadata) MD() metadata.MD {
	if len(m) == 0 {
		return nil
	}
	md, single := make(metadata.MD, len(m)), make([]string, len(m))
	for i, f := range m {
		name := strings.ToLower(f.Name)
		if values, repeats := md[name]; repeats {
			md[name] = append(values, f.Value)
			continue
		}
		single[i] = f.Value
		md[name] = single[i : i+1 : i+1]
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

// passes reports whether metadata of this lower-case name may be written to Kafka under headers of this prefix, or taken from there.
// Reserved names belong to one HTTP/2 hop; credentials pass only where the configuration names them, because
// Kafka stores what it is given.
func (c *Contract) passes(prefix, name string) bool {
	switch name {
	case statusDetails:
		return prefix == trailerPrefix
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

// appendField reads the first of the headers that are left of a record, which is one of metadata. What HTTP/2 cannot carry is left out: a peer
// would refuse the whole call for it.
func (c *Contract) appendField(m Metadata, left *LeftOut, prefix string, headers []Header) Metadata {
	h := headers[0]
	name := strings.ToLower(h.Name[len(prefix):])
	if !c.passes(prefix, name) {
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
		return append(m.room(len(headers)), Field{name, value})
	}
	// A gRPC library may join repeated binary values with commas, which are no base64.
	for part := range strings.SplitSeq(string(h.Value), ",") {
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(part, "="))
		if err != nil {
			left.add(h.Name, "the value is not base64: "+err.Error())
			continue
		}
		m = append(m.room(len(headers)), Field{name, string(value)})
	}
	return m
}

// room is m, or room for so many fields where there are none yet.
func (m Metadata) room(fields int) Metadata {
	if m == nil {
		return make(Metadata, 0, fields)
	}
	return m
}

func isBinary(name string) bool { return strings.HasSuffix(name, "-bin") }
