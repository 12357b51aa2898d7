package topology

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// Options change how a file is read, so that it runs unedited in another place.
type Options struct {
	Brokers   []string                         // host:port each; replace `servers` of every kafka client binding
	Listen    string                           // a host without port; replaces `host` of every tcp server binding
	LookupEnv func(name string) (string, bool) // resolves ${{env.NAME}}; nil: os.LookupEnv

	// Protos asks a schema registry for a proto; nil: those of registries are left out, with a warning.
	Protos func(*Registry, SchemaRef) (RegistryProto, error)

	// Read is told of each file that is looked for, also where Load ends with an error: what is in it, or why it cannot be read. It is told
	// of folders that are not there, too. nil: nobody is.
	Read func(path string, data []byte, err error)
}

// read is what reader answers for a file, of which Read is told.
func (o Options) read(path string, reader func(string) ([]byte, error)) ([]byte, error) {
	data, err := reader(path)
	if o.Read != nil {
		o.Read(path, data, err)
	}
	return data, err
}

// Load reads a zilla.yaml, with the protos and keystores that it names, relative to the file's directory, and
// checks all of it. The error is always Problems and holds every problem found; only a file that cannot be read
// or is not YAML stops at the first one.
//
// A file has at most 1 MiB, 20,000 YAML tokens and 64 levels; anchors, aliases, merge keys and tags are refused.
func Load(path string, o Options) (*Topology, error) {
	r := newReport(path)
	t := load(r, path, o)
	r.sort()
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	t.Warnings = r.warnings
	return t, nil
}

func load(r *report, path string, o Options) *Topology {
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	checkOptions(r, o)
	data, err := o.read(path, readBounded)
	if err != nil {
		r.cause(err, position{}, "cannot read the configuration: %v", err)
		return nil
	}
	root, ok := parse(r, data)
	if !ok {
		return nil
	}
	d := &decoder{report: r, lookup: o.LookupEnv, texts: map[any]text{}, said: map[place]mention{}}
	doc := &document{}
	d.mapping(root, nodePosition(root), valueOf(doc), place{})
	c := &compiler{report: r, options: o, dir: filepath.Dir(path), doc: doc, texts: d.texts, said: d.said}
	return c.compile(path)
}

func checkOptions(r *report, o Options) {
	for _, b := range o.Brokers {
		if wrong := wrongAddress(b); wrong != "" {
			r.problem(position{}, "the broker `%s` that replaces `servers` %s", b, wrong)
		}
	}
	if o.Listen != "" {
		if wrong := (&host{}).parse(o.Listen); wrong != "" {
			r.problem(position{}, "the host `%s` that replaces `host` of tcp servers %s", o.Listen, wrong)
		}
	}
}

// wrongAddress says what keeps an address from being host:port, or "".
func wrongAddress(address string) string {
	h, p, err := net.SplitHostPort(address)
	if err == nil && !wrongHost(h) {
		if port, err := strconv.Atoi(p); err == nil && port >= 1 && port <= 65535 {
			return ""
		}
	}
	return "must be host:port, such as kafka:9092 or [::1]:9092"
}
