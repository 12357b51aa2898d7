package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// jaegerBuild bounds the first build of Jaeger, which takes some minutes; later ones are cached.
const jaegerBuild = 15 * time.Minute

// jaeger is a real Jaeger that keeps spans in memory.
type jaeger struct {
	t     testing.TB
	otlp  string // URL for OTLP over gRPC
	query string // URL of its page and its API
}

// startJaeger builds Jaeger as its module says, where task jaeger-build has not done so, and starts it on loopback.
func startJaeger(t testing.TB) jaeger {
	t.Helper()
	const path = "../bin/jaeger"
	build := exec.Command("go", "build", "-trimpath", "-o", "../"+path, "github.com/jaegertracing/jaeger/cmd/all-in-one")
	build.Dir = "jaeger"
	if _, stderr, code := outputWithin(t, jaegerBuild, build); code != 0 {
		t.Fatalf("building Jaeger: exit code %d\n%s", code, stderr)
	}
	ports := freePorts(t, 7)
	c := exec.Command(path,
		"--collector.otlp.grpc.host-port="+ports[0], "--query.http-server.host-port="+ports[1],
		"--collector.otlp.http.host-port="+ports[2], "--query.grpc-server.host-port="+ports[3],
		"--collector.http-server.host-port="+ports[4], "--collector.grpc-server.host-port="+ports[5],
		"--admin.http.host-port="+ports[6])
	c.Env = append(c.Environ(), "OTEL_TRACES_SAMPLER=always_off") // it traces itself, too
	p := start(t, c)
	p.awaitText(`"status":"ready"`)
	return jaeger{t, "http://" + ports[0], "http://" + ports[1]}
}

// freePorts are addresses on loopback, below those that systems take for outgoing connections.
func freePorts(t testing.TB, n int) (out []string) {
	t.Helper()
	for tries := 0; len(out) < n; tries++ {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))
		listener, err := net.Listen("tcp", address)
		switch {
		case err == nil:
			defer func() { _ = listener.Close() }() // not before all are found
			out = append(out, address)
		case tries > 100:
			t.Fatalf("finding a free port: %v", err)
		}
	}
	return out
}

// within tries until it has worked.
func (j jaeger) within(what string, try func(context.Context) error) {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for last := error(nil); ; {
		// One that hangs must not take the time of all.
		limited, stop := context.WithTimeout(ctx, patience/10)
		err := try(limited)
		stop()
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err // not that the time is over
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			j.t.Fatalf("not within %s: %s: %v", patience, what, last)
		}
	}
}

// trace is a trace as Jaeger's API has it.
type trace struct {
	ID        string `json:"traceID"`
	Spans     []span `json:"spans"`
	Processes map[string]struct {
		Service string `json:"serviceName"`
	} `json:"processes"`
}

type span struct {
	Trace      string      `json:"traceID"`
	ID         string      `json:"spanID"`
	Name       string      `json:"operationName"`
	Start      int64       `json:"startTime"` // Unix microseconds
	Process    string      `json:"processID"`
	Tags       []keyValue  `json:"tags"`
	References []reference `json:"references"`
	Logs       []struct {
		Fields []keyValue `json:"fields"`
	} `json:"logs"`
}

// reference is a parent, CHILD_OF, or a link, FOLLOWS_FROM.
type reference struct {
	Type  string `json:"refType"`
	Trace string `json:"traceID"`
	Span  string `json:"spanID"`
}

type keyValue struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

func texts(all []keyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range all {
		out[kv.Key] = fmt.Sprint(kv.Value)
	}
	return out
}

func (s span) tags() map[string]string { return texts(s.Tags) }

// parent is the id of the span above, "" for the first one of a trace.
func (s span) parent() string {
	for _, r := range s.References {
		if r.Type == "CHILD_OF" && r.Trace == s.Trace {
			return r.Span
		}
	}
	return ""
}

// links are the spans that this one names beside its parent.
func (s span) links() (out []reference) {
	for _, r := range s.References {
		if r.Type == "FOLLOWS_FROM" {
			out = append(out, r)
		}
	}
	return out
}

func (s span) events() (out []map[string]string) {
	for _, l := range s.Logs {
		out = append(out, texts(l.Fields))
	}
	return out
}

func (j jaeger) traces(ctx context.Context, path string) ([]trace, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, j.query+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var body struct {
		Data   []trace
		Errors []struct{ Msg string }
	}
	decoder := json.NewDecoder(response.Body)
	decoder.UseNumber() // offsets
	if err := decoder.Decode(&body); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", path, response.Status, err)
	}
	if response.StatusCode != http.StatusOK || len(body.Errors) > 0 {
		return nil, fmt.Errorf("%s: %s: %v", path, response.Status, body.Errors)
	}
	return body.Data, nil
}

// expect waits until the trace with an id has this tree, and answers it.
func (j jaeger) expect(id, tree string) trace {
	j.t.Helper()
	return j.await("/api/traces/"+id, is(tree))
}

// expectCall is the same for the one trace that has a span with a correlation id.
func (j jaeger) expectCall(correlationID, tree string) trace {
	j.t.Helper()
	return j.await(tagged(correlationID), is(tree))
}

func tagged(correlationID string) (path string) {
	tags := fmt.Sprintf(`{"messaging.message.conversation_id":%q}`, correlationID)
	return "/api/traces?" + url.Values{"service": {"kafka-grpc"}, "tags": {tags}}.Encode()
}

func is(tree string) func(trace) error {
	return func(tr trace) error {
		if got, want := strings.TrimSpace(tr.tree()), strings.TrimSpace(tree); got != want {
			return fmt.Errorf("the tree of trace %s is\n%s\nnot\n%s", tr.ID, got, want)
		}
		return nil
	}
}

// await waits until there is one trace at a path, and is as it should.
func (j jaeger) await(path string, check func(trace) error) (found trace) {
	j.t.Helper()
	j.within("a trace of Jaeger", func(ctx context.Context) error {
		all, err := j.traces(ctx, path)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("%s has %d traces", path, len(all))
		}
		found = all[0]
		return check(found)
	})
	return found
}

// lost is the line that spans stand below whose parent is not there.
const lost = "(lost with its process)"

// tree is a line for each span, below its parent and in the order of their beginning: service, name, kind, which attempt,
// status, and whether it is an error.
func (tr trace) tree() string {
	below, ids := map[string][]span{}, map[string]bool{"": true}
	for _, s := range tr.Spans {
		below[s.parent()] = append(below[s.parent()], s)
		ids[s.ID] = true
	}
	var b strings.Builder
	var write func(parent, indent string)
	write = func(parent, indent string) {
		slices.SortStableFunc(below[parent], func(a, b span) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.ID, b.ID)) })
		for _, s := range below[parent] {
			tags := s.tags()
			fmt.Fprintf(&b, "%s%s: %s [%s]", indent, tr.Processes[s.Process].Service, s.Name, tags["span.kind"])
			if n := tags["kafka_grpc.attempt"]; n != "" {
				fmt.Fprintf(&b, " attempt %s", n)
			}
			if status := tags["rpc.response.status_code"]; status != "" {
				fmt.Fprintf(&b, " %s", status)
			}
			if tags["error"] == "true" {
				b.WriteString(" (error)")
			}
			b.WriteByte('\n')
			write(s.ID, indent+"  ")
		}
	}
	write("", "")
	for _, s := range tr.Spans {
		if !ids[s.parent()] {
			ids[s.parent()] = true
			b.WriteString(lost + "\n")
			write(s.parent(), "  ")
		}
	}
	return b.String()
}

// find is the only span of a service with a name and a kind.
func (j jaeger) find(tr trace, service, name, kind string) span {
	j.t.Helper()
	all := j.findAll(tr, service, name, kind)
	if len(all) != 1 {
		j.t.Fatalf("trace %s has %d spans %s [%s] of %s", tr.ID, len(all), name, kind, service)
	}
	return all[0]
}

// findAll are these spans in the order of their beginning.
func (j jaeger) findAll(tr trace, service, name, kind string) (out []span) {
	for _, s := range tr.Spans {
		if tr.Processes[s.Process].Service == service && s.Name == name && s.tags()["span.kind"] == kind {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.Start, b.Start) })
	return out
}
